"""X: did each execution of the machine carry what the mark step needs, mark what it should, and lose nothing on its way?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from embedpipe.lifecycle import OPEN, TERMINAL_ACTIONS
from embedpipe.limits import STATE_BYTES_MAX
from embedpipe.model import BatchRow
from embedpipe.wire import Mark
from verify.audit.checks import Moment, found
from verify.audit.executions import Execution
from verify.audit.findings import Finding, shown_ids
from verify.audit.history import ABSENT, FIELDS, History
from verify.audit.ports import LogLine, MapRun, Run

__all__ = ["CHECKS", "Told", "eligible_ids"]

NEAR_BYTES: Final = 200 * 1024
NEAR_EVENTS: Final = 20_000
"""[ours] Where a state, or a history, is near the engine's limit."""
EVENTS_MAX: Final = 25_000  # [aws] of one history
PATH_FAILURES: Final = frozenset({"States.ParameterPathFailure", "States.Runtime"})
ACCOUNTED: Final = frozenset({"marked", "already_complete"})


@attrs.frozen(kw_only=True, eq=False)
class Told:
    """One execution as every source shows it. A part is None where its source is out of scope, or has nothing."""

    execution: Execution
    run: Run | None = None
    history: History | None = None
    map_runs: Mapping[str, MapRun] = attrs.field(factory=dict)
    marks: tuple[Mark, ...] | None = None
    """What `marked.json` says; None: there is none."""
    rows: Mapping[str, object] | None = None
    """Rows of the batches that it quotes."""
    lines: tuple[LogLine, ...] | None = None
    """Its mark step's log lines."""

    @property
    def execution_id(self) -> str:
        """The name that all of them have."""
        return self.execution.execution_id

    @property
    def location(self) -> str:
        """Where findings point."""
        return f"history:{self.run.arn if self.run is not None else self.execution_id}"

    @property
    def quoted(self) -> tuple[str, ...]:
        """Batches in its poll_results.json, each once."""
        results = self.execution.results
        return tuple(dict.fromkeys(str(one.batch_id) for one in results)) if isinstance(results, tuple) else ()

    def open_of(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """Those whose rows are open."""
        rows = self.rows or {}
        return tuple(name for name in ids if isinstance(row := rows.get(name), BatchRow) and row.status in OPEN)


def eligible_ids(told: Told) -> tuple[str, ...]:
    """Batches whose results are terminal, each once."""
    results = told.execution.results
    if not isinstance(results, tuple):
        return ()
    return tuple(dict.fromkeys(str(one.batch_id) for one in results if one.action in TERMINAL_ACTIONS))


def lost_key(told: Told, moment: Moment) -> Iterator[Finding]:
    """X301: the mark step is not given the key of the results, or another."""
    seen = told.history
    if seen is None or not (seen.marks or seen.error in PATH_FAILURES):
        return
    ids = eligible_ids(told) or told.quoted
    for lost in seen.lost:
        yield found(
            "X301",
            told.location,
            *ids,
            field=lost.field,
            state=lost.state,
            before=lost.before,
            after="null" if lost.after is None else lost.after,
        )
    key = moment.layout.poll_results_key(told.execution_id)
    given = seen.key
    if not seen.lost and given not in (ABSENT, None, key) and "poll_results" in told.execution.present:
        yield found("X301", told.location, *ids, field=FIELDS[0], state="mark", before=key, after=given)


def unmarked(told: Told, _: Moment) -> Iterator[Finding]:
    """X302: it says SUCCEEDED, and some batch that it should have marked is not accounted for."""
    if told.run is None or not told.run.succeeded or told.history is None:
        return
    if not (told.history.marks or told.history.carries):
        return
    counts = told.history.counts
    ids = eligible_ids(told)
    eligible = len(ids) if isinstance(told.execution.results, tuple) else (counts or {}).get("eligible", 0)
    left = tuple(name for name in ids if name not in _accounted(told))
    accounted = _counted(counts) if counts is not None else None
    short = accounted is not None and accounted < eligible
    if told.marks is None and accounted is None:  # nobody counts: the rows decide
        left = told.open_of(ids)
    elif told.marks is None:
        left = (told.open_of(ids) or ids) if short else ()
    if not short and not left:
        return
    yield found(
        "X302",
        told.location,
        *(left or told.open_of(ids) or ids),
        status=told.run.status,
        eligible=eligible,
        counts=dict(counts) if counts else "none",
        unaccounted=shown_ids(list(left)),
    )


def _accounted(told: Told) -> frozenset[str]:
    marks = told.marks or ()
    return frozenset(mark.batch_id for mark in marks if mark.outcome in ACCOUNTED or mark.reason)


def _counted(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("batches_marked", "already_complete", "skipped", "missing"))


def lost_items(told: Told, _: Moment) -> Iterator[Finding]:
    """X303: a Map was given more than came out of it, or not all that was listed, and nobody was told."""
    seen = told.history
    if seen is None or told.run is None or not told.run.succeeded:
        return
    quoted = frozenset(told.quoted)
    for fan in seen.fanned:
        counted = told.map_runs.get(fan.map_run) if fan.map_run else MapRun(total=fan.items, succeeded=fan.succeeded)
        if counted is None:
            continue
        of_batches = bool(fan.batch_ids) or "Poll" in fan.state
        expected = seen.total_batches if of_batches and seen.total_batches is not None else counted.total
        knows_all = isinstance(told.execution.results, tuple)
        caught = tuple(name for name in fan.caught if knows_all and name not in quoted)
        listed = tuple(batch.batch_id for batch in told.execution.listed)
        silent = caught or tuple(name for name in listed if of_batches and name not in quoted)
        told_of = of_batches and knows_all and len(quoted) >= expected
        if caught or (not told_of and (counted.succeeded < counted.total or counted.total < expected)):
            yield found(
                "X303",
                told.location,
                *silent,
                state=fan.state,
                expected=expected,
                items=counted.total,
                succeeded=counted.succeeded,
                quoted=len(quoted),
            )


def returned_errors(told: Told, _: Moment) -> Iterator[Finding]:
    """X303: a handler's error that was returned as a normal result."""
    for returned in told.history.returned if told.history is not None else ():
        ids = (returned.batch_id,) if returned.batch_id else told.quoted
        yield found(
            "X303", told.location, *ids, state=returned.state, expected="a result, or an error", actual=returned.said
        )


def near_limits(told: Told, _: Moment) -> Iterator[Finding]:
    """X304: a payload or the history is near what the engine takes."""
    seen = told.history
    if seen is None or (seen.largest_bytes < NEAR_BYTES and seen.events < NEAR_EVENTS):
        return
    yield found(
        "X304",
        told.location,
        largest_bytes=seen.largest_bytes,
        state=seen.largest_in,
        bytes_max=STATE_BYTES_MAX,
        events=seen.events,
        events_max=EVENTS_MAX,
    )


CHECKS: Final[tuple[Callable[[Told, Moment], Iterator[Finding]], ...]] = (
    lost_key,
    unmarked,
    lost_items,
    returned_errors,
    near_limits,
)
