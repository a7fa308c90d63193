"""Follow a field through the history of one execution: what every state was given and gave, and where it changed. Pure.

The rule kept here: what the history does not show is not known. A payload that the engine has cut off says nothing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from verify.audit.history import ABSENT, is_mark
from verify.audit.payloads import parsed, unwrapped, values_of
from verify.audit.ports import Event

__all__ = ["Answer", "Came", "Stop", "Trail", "follow"]

_DETAILS: Final[Mapping[str, tuple[str, str, str]]] = {
    # what the type of an event ends with -> where its payload is, the payload's name, what the state does with it
    "StateEntered": ("stateEnteredEventDetails", "input", "entered"),
    "StateExited": ("stateExitedEventDetails", "output", "left"),
    "TaskScheduled": ("taskScheduledEventDetails", "parameters", "given"),
    "LambdaFunctionScheduled": ("lambdaFunctionScheduledEventDetails", "input", "given"),
    "TaskSucceeded": ("taskSucceededEventDetails", "output", "returned"),
    "LambdaFunctionSucceeded": ("lambdaFunctionSucceededEventDetails", "output", "returned"),
}


class Came(StrEnum):
    """How a value came to where it was to arrive."""

    THERE = "there"
    ABSENT = "absent"
    NULL = "null"
    CHANGED = "changed"
    NOT_REACHED = "not reached"
    UNKNOWN = "unknown"


@attrs.frozen(kw_only=True)
class Stop:
    """One look at the field."""

    event_id: int
    state: str
    what: str
    """`entered`, `given`, `returned` or `left`."""
    value: object
    """None: null; `ABSENT`: not there."""
    known: bool = True
    """False where the payload was cut off."""


@attrs.frozen(kw_only=True)
class Answer:
    """What became of one field."""

    field: str
    came: Came
    stops: tuple[Stop, ...]
    """Where it appeared, and every state from there to the end of its way."""
    lost_in: str = ""
    """The state that was entered with it and left without, or that gave it another value."""
    before: object = ABSENT
    after: object = ABSENT


@attrs.frozen(kw_only=True)
class Trail:
    """All fields of one execution."""

    name: str
    status: str
    events: int
    target: str
    answers: tuple[Answer, ...]

    @property
    def exit_code(self) -> int:
        """1 where a field got lost, 3 where nobody can tell, else 0."""
        lost = {Came.ABSENT, Came.NULL, Came.CHANGED}
        if any(answer.came in lost for answer in self.answers):
            return 1
        return 0 if all(answer.came is Came.THERE for answer in self.answers) else 3


def follow(events: Iterable[Event], *, fields: Iterable[str], state: str | None = None, name: str = "") -> Trail:
    """The way of each field to the state of that name (a pattern with `*`), or to the one that marks batches."""
    wanted = tuple(fields)
    places: dict[int, str] = {}
    stops: dict[str, list[Stop]] = {field: [] for field in wanted}
    target = arriving = status = ""
    count = 0
    for event in events:
        count += 1
        kind = str(event.get("type", ""))
        place = _place(event, places)
        if kind.startswith("Execution") and kind != "ExecutionStarted":
            status = kind.removeprefix("Execution").upper()
        for ending, (details, payload, what) in _DETAILS.items():
            if kind.endswith(ending) and not target:
                _look(event, details, payload, what, place, stops)
        if _is_target(place, state):
            arriving = arriving or place
            # A task is given what its Parameters take of the state; any other state has what it is entered with.
            if kind.endswith(("TaskScheduled", "LambdaFunctionScheduled", "StateExited", "StateAborted")):
                target = target or place
    return Trail(
        name=name,
        status=status,
        events=count,
        target=target or arriving,
        answers=tuple(_answer(field, tuple(found), reached=bool(target or arriving)) for field, found in stops.items()),
    )


def _is_target(place: str, state: str | None) -> bool:
    return is_mark(place) if state is None else fnmatch.fnmatchcase(place, state)


def _part(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under a name; an empty one where there is none."""
    found = event.get(name)
    return found if isinstance(found, Mapping) else {}


def _place(event: Event, places: dict[int, str]) -> str:
    """The state that an event belongs to: its own, or that of the event before it."""
    named = _part(event, "stateEnteredEventDetails") or _part(event, "stateExitedEventDetails")
    place = str(named.get("name") or places.get(event.get("previousEventId") or 0, ""))
    places[event.get("id") or 0] = place
    return place


def _look(event: Event, details: str, payload: str, what: str, place: str, stops: Mapping[str, list[Stop]]) -> None:
    found = _part(event, details)
    cut = bool(_part(found, f"{payload}Details").get("truncated"))
    text = found.get(payload)
    value = parsed(text) if isinstance(text, str) else None
    if what == "returned":
        value = unwrapped(value)
    elif what == "given" and isinstance(value, Mapping) and "Payload" in value:
        value = value["Payload"]
    for field, seen in stops.items():
        values = [] if cut else values_of(value, field)
        real = [one for one in values if one is not None]
        shown: Any = real[0] if real else None if values else ABSENT
        seen.append(
            Stop(
                event_id=event.get("id") or 0,
                state=place,
                what=what,
                value=shown,
                known=not cut and text is not None,
            )
        )


def _answer(field: str, seen: tuple[Stop, ...], *, reached: bool) -> Answer:
    """From the first state that has it. What a task returned and a state did not keep shows when that state is left."""
    first = next((at for at, stop in enumerate(seen) if stop.known and stop.value not in (ABSENT, None)), None)
    if first is None:
        came = Came.UNKNOWN if not all(stop.known for stop in seen) else Came.ABSENT if reached else Came.NOT_REACHED
        return Answer(field=field, came=came, stops=seen[-1:])
    way = seen[first:]
    before, lost = way[0].value, ""
    after: object = before
    for previous, stop in zip(way[:1] + way, way, strict=False):
        if stop.what == "returned" or not stop.known or (stop.what == "given" and stop is not way[-1]):
            continue  # a task may be given, and may return, a part of the state
        if stop.value != after:
            lost, after = ("" if stop.value == before else _blamed(previous, stop)), stop.value
    last = way[-1]
    if not reached:
        came = Came.NOT_REACHED
    elif not last.known:
        came = Came.UNKNOWN
    else:
        came = Came.THERE if last.value == before else _how(last.value)
    return Answer(field=field, came=came, stops=way, lost_in=lost, before=before, after=after)


def _blamed(previous: Stop, stop: Stop) -> str:
    """Where it changed, if it is another at this stop. On the way in: the state before, whose end was not seen."""
    unseen = not previous.known or previous.what != "left"
    return previous.state if stop.what == "entered" and unseen else stop.state


def _how(value: object) -> Came:
    if value == ABSENT:
        return Came.ABSENT
    return Came.NULL if value is None else Came.CHANGED
