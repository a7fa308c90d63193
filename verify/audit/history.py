"""What the history of one execution comes to: read once, event by event, in the memory of one event. Pure.

The rule kept here: what is not in the history is not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from verify.audit.payloads import parsed, payloads, returned_error, unwrapped, values_of
from verify.audit.ports import Event

__all__ = ["ABSENT", "FIELDS", "History", "Returned", "read_history"]

FIELDS: Final = ("poll_results_s3_key", "poll_results_s3_bucket")
"""What the mark step needs to find the results."""
MARK_STATES: Final = re.compile(r"Mark\w*BatchesComplete")
"""Names of states that mark, the seed's and ours."""
COUNTS: Final = ("extracted", "eligible", "batches_marked", "already_complete", "skipped", "missing")
"""Figures of the mark step."""
RETURNED_KEPT: Final = 20
"""[ours] Errors returned as results that one execution is reported with; bounds memory."""
ABSENT: Final = "absent"
"""Stands for a value that is not there; null is None."""


@attrs.frozen(kw_only=True)
class Returned:
    """An error that a handler returned as if it were a result."""

    state: str
    said: str
    batch_id: str | None = None


@attrs.frozen(kw_only=True)
class Fanned:
    """One Map: how many items it was given, and what became of them."""

    state: str
    items: int
    succeeded: int
    batch_ids: tuple[str, ...] = ()
    """Of its items, where they name one."""
    map_run: str | None = None
    """ARN of a Distributed Map, whose counts are elsewhere."""
    caught: tuple[str, ...] = ()
    """Batches of the iterations in which something failed that was caught."""


@attrs.frozen(kw_only=True)
class Lost:
    """A value that did not come through."""

    field: str
    state: str
    """Where it was lost."""
    before: object
    after: object
    """None: null. `ABSENT`: not there."""


@attrs.frozen(kw_only=True)
class History:
    """What an execution did."""

    events: int
    largest_bytes: int
    """Of all that went in or out of a state."""
    largest_in: str
    status: str = ""
    """How it ended, by its last event."""
    error: str = ""
    total_batches: int | None = None
    """What the list step said."""
    marks: bool = False
    """Whether a state that marks was entered."""
    counts: Mapping[str, int] | None = None
    """What that state returned last."""
    fanned: tuple[Fanned, ...] = ()
    returned: tuple[Returned, ...] = ()
    lost: tuple[Lost, ...] = ()
    key: object = ABSENT
    """`poll_results_s3_key` as the mark step was given it."""
    carries: bool = False
    """Whether the state had a key of results at all: a submission's has none."""


def read_history(events: Iterable[Event]) -> History:
    """One pass over the events."""
    reader = _Reader()
    for event in events:
        reader.see(event)
    return reader.history()


def is_mark(state: str) -> bool:
    """Whether a state of this name marks batches.

    >>> is_mark("MarkBatchesComplete"), is_mark("MarkNotesBatchesComplete"), is_mark("MarkNotesBatchesCompleteDone")
    (True, True, False)
    """
    return MARK_STATES.fullmatch(state) is not None


# --- the pass ------------------------------------------------------------------------------------------------------


@attrs.define
class _Fan:
    state: str
    items: int = 0
    succeeded: int = 0
    map_run: str | None = None
    batch_ids: list[str] = attrs.field(factory=list)
    caught: list[str] = attrs.field(factory=list)


@attrs.define
class _Place:
    """Where an event belongs: its state, and the iteration that it is in."""

    state: str = ""
    iteration: int | None = None
    """Id of the event that began it."""


class _Reader:
    def __init__(self) -> None:
        self._places: dict[int, _Place] = {0: _Place()}
        self._fans: dict[str, _Fan] = {}
        self._batches: dict[int, str] = {}
        """Event that began an iteration -> the batch of its item."""
        self._failed: set[int] = set()
        self._last: dict[str, Any] = {}
        """Field -> its value."""
        self._lost: dict[str, Lost] = {}
        self._returned: list[Returned] = []
        self._count = self._largest = 0
        self._largest_in = self._status = self._error = ""
        self._total: int | None = None
        self._counts: Mapping[str, int] | None = None
        self._marks = self._arrived = False
        self._key: object = ABSENT

    def see(self, event: Event) -> None:
        self._count += 1
        place = self._placed(event)
        for text in payloads(event):
            size = len(text.encode())
            if size > self._largest:
                self._largest, self._largest_in = size, place.state
            self._payload(event, place, parsed(text))
        self._step(event, place)

    def _placed(self, event: Event) -> _Place:
        before = self._places.get(event.get("previousEventId", 0), _Place())
        kind, place = event["type"], before
        if kind.endswith("StateEntered"):
            place = attrs.evolve(before, state=event["stateEnteredEventDetails"]["name"])
        elif kind == "MapIterationStarted":
            place = _Place(state=event["mapIterationStartedEventDetails"]["name"], iteration=event["id"])
        elif kind in ("MapIterationSucceeded", "MapStateSucceeded", "MapStateExited"):
            name = event.get("mapIterationSucceededEventDetails", event.get("stateExitedEventDetails", {})).get("name")
            place = _Place(state=name or before.state)
        self._places[event["id"]] = place
        return place

    def _step(self, event: Event, place: _Place) -> None:
        kind = event["type"]
        fan = self._fans.get(place.state)
        if kind == "MapStateStarted":
            self._fans[place.state] = _Fan(place.state, items=event["mapStateStartedEventDetails"]["length"])
        elif kind == "MapRunStarted":
            arn = event["mapRunStartedEventDetails"]["mapRunArn"]
            self._fans[place.state] = _Fan(place.state, map_run=arn)
        elif kind == "MapIterationSucceeded" and fan is not None:
            fan.succeeded += 1
        elif kind in ("TaskFailed", "LambdaFunctionFailed", "TaskTimedOut", "LambdaFunctionTimedOut"):
            self._failed |= {place.iteration} if place.iteration is not None else set()
        elif kind in ("TaskSucceeded", "LambdaFunctionSucceeded"):
            self._failed -= {place.iteration} if place.iteration is not None else set()
        elif kind.startswith("Execution") and kind != "ExecutionStarted":
            self._status = kind.removeprefix("Execution").upper()
            details = event.get(f"execution{kind.removeprefix('Execution')}EventDetails") or {}
            self._error = str(details.get("error", ""))

    def _payload(self, event: Event, place: _Place, value: Any) -> None:
        kind = event["type"]
        if kind in ("TaskSucceeded", "LambdaFunctionSucceeded"):
            self._result(place, unwrapped(value))
        elif place.iteration is not None:
            self._item(place, value)
        elif kind.endswith(("StateEntered", "StateExited")):
            self._passed(place, value, entered=kind.endswith("Entered"))
        elif kind in ("TaskScheduled", "LambdaFunctionScheduled") and is_mark(place.state):
            self._given(place, value)

    def _item(self, place: _Place, value: Any) -> None:
        name = value.get("batch_id") if isinstance(value, Mapping) else None
        if isinstance(name, str) and place.iteration is not None:
            self._batches.setdefault(place.iteration, name)

    def _result(self, place: _Place, output: Any) -> None:
        said = returned_error(output)
        if said and len(self._returned) < RETURNED_KEPT:
            name = self._batches.get(place.iteration) if place.iteration is not None else None
            self._returned.append(Returned(state=place.state, said=said, batch_id=name))
        if is_mark(place.state) and isinstance(output, Mapping):
            found = {name: output[name] for name in COUNTS if isinstance(output.get(name), int)}
            self._counts = found or self._counts

    def _passed(self, place: _Place, value: Any, *, entered: bool) -> None:
        """The state as a whole, on its way from one state to the next."""
        self._marks = self._marks or (entered and is_mark(place.state))
        totals = [total for total in values_of(value, "total_batches") if isinstance(total, int)]
        self._total = totals[0] if totals else self._total
        for field in FIELDS:
            self._follow(field, place.state, value, entered=entered)
        self._arrived = self._arrived or self._marks

    def _follow(self, field: str, state: str, value: Any, *, entered: bool) -> None:
        if self._arrived:
            return
        found = values_of(value, field)
        real = [one for one in found if one is not None]
        before = self._last.get(field)
        if real and (before is None or before in real):
            self._last[field] = real[0] if before is None else before
            self._lost.pop(field, None)
        elif real:
            self._lose(field, state, before, real[0])
        elif before is not None or (field == FIELDS[0] and entered and is_mark(state)):
            self._lose(field, state, ABSENT if before is None else before, None if found else ABSENT)

    def _given(self, place: _Place, value: Any) -> None:
        """What the mark step's function was given."""
        for field in FIELDS:
            found = values_of(value, field)
            before = self._last.get(field, ABSENT)
            if field == FIELDS[0]:
                self._key = found[0] if found else ABSENT
            if not found or found[0] is None:
                after = None if found else ABSENT
                if field == FIELDS[0]:  # a function may know its bucket by itself
                    self._lose(field, place.state, before, after)
            elif before not in (ABSENT, found[0]):
                self._lose(field, place.state, before, found[0])

    def _lose(self, field: str, state: str, before: object, after: object) -> None:
        self._lost.setdefault(field, Lost(field=field, state=state, before=before, after=after))

    def history(self) -> History:
        for iteration in self._failed:
            fan = self._fans.get(self._places[iteration].state)
            if fan is not None and iteration in self._batches:
                fan.caught.append(self._batches[iteration])
        for iteration, name in self._batches.items():
            fan = self._fans.get(self._places[iteration].state)
            if fan is not None:
                fan.batch_ids.append(name)
        return History(
            events=self._count,
            largest_bytes=self._largest,
            largest_in=self._largest_in,
            status=self._status,
            error=self._error,
            total_batches=self._total,
            marks=self._marks,
            counts=self._counts,
            fanned=tuple(
                Fanned(
                    state=fan.state,
                    items=fan.items,
                    succeeded=fan.succeeded,
                    batch_ids=tuple(fan.batch_ids),
                    map_run=fan.map_run,
                    caught=tuple(fan.caught),
                )
                for fan in self._fans.values()
            ),
            returned=tuple(self._returned),
            lost=tuple(self._lost.values()),
            key=self._key,
            carries=FIELDS[0] in self._last,
        )
