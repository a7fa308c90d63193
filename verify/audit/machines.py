"""What state machines and log groups say, joined with executions by their ids: gathered once, and read again before a report.

The rule kept here: an execution that runs is in flight, one whose history is gone was not evaluated, and neither is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs
import msgspec

from embedpipe.errors import CorruptData, NotFound, ServiceError
from embedpipe.wire import Marked
from verify.audit.checks import Moment, executions, found, logs
from verify.audit.checks.executions import Told
from verify.audit.checks.logs import EVENT, line_of
from verify.audit.coverage import State, worst
from verify.audit.executions import Execution
from verify.audit.findings import Finding
from verify.audit.gather import Gatherer
from verify.audit.history import History, read_history
from verify.audit.objects import envelope
from verify.audit.options import Options
from verify.audit.ports import HISTORY_KEPT_DAYS, STANDARD, LogLine, MapRun, Run
from verify.audit.rows import blocks, healthy_rows
from verify.audit.sorting import Sorter
from verify.audit.sources import Source

__all__ = ["MachineSide", "Side"]

FAMILIES: Final = ("X", "L")
LATE_S: Final = 900.0
"""[ours] How long after its end a line of an execution may appear under its time."""

_encode: Final = msgspec.json.Encoder().encode


class _Ran(msgspec.Struct, tag="run", frozen=True):
    arn: str
    status: str
    started_at: datetime
    stopped_at: datetime | None


class _Said(msgspec.Struct, tag="line", frozen=True):
    at: datetime
    message: str


_decode: Final = msgspec.json.Decoder(_Ran | _Said).decode


@attrs.frozen(kw_only=True)
class Side:
    """What was gathered of one execution."""

    run: Run | None = None
    lines: tuple[LogLine, ...] = ()
    others: tuple[Run, ...] = ()
    """Of the same name, from other machines: a submission and an ingest may be called alike."""

    def joined(self, began_at: datetime | None) -> Side:
        """The same, with the run that laid down the objects: it started when they began."""
        if not self.others or self.run is None or began_at is None:
            return self
        runs = sorted((self.run, *self.others), key=lambda run: abs((run.started_at - began_at).total_seconds()))
        return attrs.evolve(self, run=runs[0], others=tuple(runs[1:]))


class MachineSide:
    """The engine of state machines and the logs, for one audit."""

    def __init__(self, source: Source, options: Options, moment: Moment, gatherer: Gatherer) -> None:
        self._source = source
        self._options = options
        self._moment = moment
        self._gatherer = gatherer
        self.unread: dict[str, int] = {}
        """Family -> machines, or log groups, that could not be read to their end."""
        self._kept_days: int | None = None

    # --- gathering -------------------------------------------------------------------------------------------------

    def gather(self, into: Sorter) -> Iterator[Finding]:
        """Every execution of the machines and every line of the mark step, under the execution's id."""
        for machine in self._source.machines:
            yield from self._guarded("X", f"history:{machine}", lambda machine=machine: self._runs(machine, into))  # type: ignore[misc]
        for group in self._source.log_groups:
            yield from self._guarded("L", f"logs:{group}", lambda group=group: self._lines(group, into))  # type: ignore[misc]

    def _guarded(self, family: str, location: str, work: Callable[[], str]) -> Iterator[Finding]:
        try:
            why = work()
        except (ServiceError, CorruptData) as error:
            why = str(error)
        if why:
            self.unread[family] = self.unread.get(family, 0) + 1
            yield found("A901", location, reason=why)

    def _runs(self, machine: str, into: Sorter) -> str:
        histories = self._source.histories
        assert histories is not None
        kind = histories.type_of(machine)
        if kind != STANDARD:
            return f"A machine of type {kind} keeps no histories; its executions can't be looked at."
        for run in self._wanted(machine):
            ran = _Ran(run.arn, run.status, run.started_at, run.stopped_at)
            into.add(run.name, _encode(ran))
        return ""

    def _wanted(self, machine: str) -> Iterator[Run]:
        """The newest first, so that `--since` ends the listing; executions by name are asked for one by one."""
        histories, options = self._source.histories, self._options
        assert histories is not None
        for name in sorted(options.executions):
            try:
                yield histories.run(machine, name)
            except NotFound:
                continue
        if options.executions:
            return
        for run in histories.runs(machine):
            if options.since is not None and run.started_at < options.since:
                return
            yield run

    def _lines(self, group: str, into: Sorter) -> str:
        source = self._source
        assert source.logs is not None
        days = source.logs.kept_days(group)
        if days is not None:
            self._kept_days = min(days, self._kept_days or days)
        since = self._options.since or self._moment.now - timedelta(days=HISTORY_KEPT_DAYS)
        for line in source.logs.lines(group, containing=EVENT, since=since, until=self._moment.now):
            said = line_of(line.message)
            if said is not None:
                into.add(str(said["execution_id"]), _encode(_Said(line.at, line.message)))
        return ""

    @staticmethod
    def split(execution_id: str, payloads: Iterable[bytes]) -> tuple[Side, list[bytes]]:
        """What was gathered here, and what others have put under the same id."""
        mine = [payload for payload in payloads if payload.startswith(b"{")]
        entries = [_decode(payload) for payload in mine]
        runs = [
            Run(arn=e.arn, name=execution_id, status=e.status, started_at=e.started_at, stopped_at=e.stopped_at)
            for e in entries
            if isinstance(e, _Ran)
        ]
        lines = [LogLine(at=e.at, message=e.message) for e in entries if isinstance(e, _Said)]
        others = [payload for payload in payloads if not payload.startswith(b"{")]
        runs.sort(key=lambda run: run.started_at, reverse=True)
        return Side(run=runs[0] if runs else None, lines=tuple(lines), others=tuple(runs[1:])), others

    # --- one execution ---------------------------------------------------------------------------------------------

    def look(self, execution: Execution, side: Side) -> tuple[list[Finding], dict[str, State]]:
        """Its findings, found twice, and its states in the ledger."""
        side = side.joined(execution.began_at)
        findings, states = self._look(execution, side)
        for run in side.others:
            bare = Execution(execution_id=execution.execution_id, present={})
            more, its = self._look(bare, Side(run=run))
            findings += more
            states["X"] = worst([states["X"], its["X"]])
        return findings, states

    def _look(self, execution: Execution, side: Side) -> tuple[list[Finding], dict[str, State]]:
        blind, states = self._states(execution, side)
        checks = [
            *(executions.CHECKS if states["X"] is State.CHECKED else ()),
            *(logs.CHECKS if states["L"] is State.CHECKED else ()),
        ]
        if not checks:
            return blind, states
        try:
            candidates = _checked(checks, self._told(execution, side, states), self._moment)
            if candidates:
                present = bool(execution.present)
                again = self._gatherer.execution_again(execution.execution_id) if present else execution
                side = attrs.evolve(side, lines=self._lines_again(side, execution))
                before = {finding.identity for finding in candidates}
                second = _checked(checks, self._told(again, side, states), self._moment)
                candidates = [finding for finding in second if finding.identity in before]
        except (ServiceError, CorruptData) as error:
            gone = isinstance(error, NotFound)
            reason = f"Its history is not kept any longer: {error.message}" if gone else str(error)
            location = f"history:{side.run.arn if side.run is not None else execution.execution_id}"
            looked = {family: State.NOT_EVALUATED for family in FAMILIES if states[family] is State.CHECKED}
            return [*blind, found("A901", location, reason=reason)], states | looked
        return [*blind, *candidates], states

    def _told(self, execution: Execution, side: Side, states: Mapping[str, State]) -> Told:
        told = Told(execution=execution, run=side.run, lines=side.lines if states["L"] is State.CHECKED else None)
        marked = None
        if "marked" in execution.present and self._moment.depth.reads_content:
            key = self._source.layout.marked_key(execution.execution_id)
            marked = envelope(self._source.objects, Marked, key)
        told = attrs.evolve(told, marks=marked.marks if isinstance(marked, Marked) else None)
        if states["X"] is State.CHECKED and side.run is not None:
            history = self._history(side.run)
            told = attrs.evolve(told, history=history, map_runs=self._map_runs(history))
        return attrs.evolve(told, rows=self._rows(told))

    def _history(self, run: Run) -> History:
        assert self._source.histories is not None
        return read_history(self._source.histories.events(run.arn))

    def _map_runs(self, history: History) -> dict[str, MapRun]:
        histories = self._source.histories
        assert histories is not None
        return {fan.map_run: histories.map_run(fan.map_run) for fan in history.fanned if fan.map_run}

    def _rows(self, told: Told) -> dict[str, object] | None:
        """After the objects: a row may have ended meanwhile, and never opens again."""
        if "table" in self._source.absent:
            return None
        found: dict[str, object] = {}
        for block in blocks((name, None) for name in executions.eligible_ids(told)):
            found |= healthy_rows(self._source.table, [name for name, _ in block])
        return found

    def _lines_again(self, side: Side, execution: Execution) -> tuple[LogLine, ...]:
        if self._source.logs is None or "L" in self.unread:
            return side.lines
        began = side.run.started_at if side.run is not None else execution.began_at
        since = (began or self._moment.now - timedelta(days=HISTORY_KEPT_DAYS)) - timedelta(seconds=LATE_S)
        ended = side.run.stopped_at if side.run is not None else None
        until = ended + timedelta(seconds=LATE_S) if ended is not None else self._source.clock.now()
        lines: list[LogLine] = []
        for group in self._source.log_groups:
            # One quoted term: not every server knows how to join two.
            lines += self._source.logs.lines(group, containing=execution.execution_id, since=since, until=until)
        mine = [
            line for line in lines if (said := line_of(line.message)) and said["execution_id"] == execution.execution_id
        ]
        return tuple(mine)

    # --- the ledger ------------------------------------------------------------------------------------------------

    def _states(self, execution: Execution, side: Side) -> tuple[list[Finding], dict[str, State]]:
        blind: list[Finding] = []
        states = {"X": self._of_history(execution, side), "L": self._of_logs(execution, side)}
        if states["X"] is State.NOT_EVALUATED and "X" not in self.unread:
            reason = f"It began more than {HISTORY_KEPT_DAYS} days ago, and its history is not kept any longer."
            blind.append(found("A901", f"history:{execution.execution_id}", reason=reason))
        if states["L"] is State.NOT_EVALUATED and "L" not in self.unread:
            code, reason = self._why_no_line(execution)
            blind.append(found(code, f"logs:{execution.execution_id}", reason=reason))
        return blind, states

    def _of_history(self, execution: Execution, side: Side) -> State:
        if self._source.histories is None:
            return State.OUT_OF_SCOPE
        if side.run is None:
            return State.NOT_EVALUATED if "X" in self.unread else self._without_run(execution)
        return State.IN_FLIGHT if side.run.running else State.CHECKED

    def _without_run(self, execution: Execution) -> State:
        """Objects of no execution of these machines: begun since they were listed, long ago, or elsewhere."""
        age_s = self._moment.age_s(execution.began_at)
        if age_s is None or age_s <= max(0.0, self._moment.grace_s):
            return State.IN_FLIGHT
        return State.NOT_EVALUATED if age_s > HISTORY_KEPT_DAYS * 86_400 else State.OUT_OF_SCOPE

    def _of_logs(self, execution: Execution, side: Side) -> State:
        if self._source.logs is None:
            return State.OUT_OF_SCOPE
        if "L" in self.unread:
            return State.NOT_EVALUATED
        if side.lines:
            return State.IN_FLIGHT if side.run is not None and side.run.running else State.CHECKED
        return self._without_line(execution, side)

    def _without_line(self, execution: Execution, side: Side) -> State:
        """No line: it may still come, be too old, never have been promised, or be lost."""
        if side.run is not None and side.run.running:
            return State.IN_FLIGHT
        if self._source.histories is not None and side.run is None:
            return self._without_run(execution)
        marked = execution.present.get("marked")
        if marked is None:
            promised = side.run is not None and side.run.succeeded and "poll_results" in execution.present
            return State.NOT_EVALUATED if promised else State.CHECKED
        if not self._moment.is_old(marked.modified_at):
            return State.IN_FLIGHT
        return State.NOT_EVALUATED if self._too_old(marked.modified_at) else State.CHECKED

    def _too_old(self, when: datetime) -> bool:
        age_s = self._moment.age_s(when)
        return age_s is not None and age_s > self._searched_days * 86_400

    @property
    def _searched_days(self) -> int:
        """How far back lines were looked for."""
        return min(HISTORY_KEPT_DAYS, self._kept_days if self._kept_days is not None else HISTORY_KEPT_DAYS)

    def _why_no_line(self, execution: Execution) -> tuple[str, str]:
        if "marked" in execution.present or (self._source.histories is not None and not execution.present):
            return "A901", f"Log lines are looked for {self._searched_days} days back, and it is older."
        return "A902", f"It has no line {EVENT!a} and no marked.json: a pipeline that promises neither."


def _checked(
    checks: Sequence[Callable[[Told, Moment], Iterator[Finding]]], told: Told, moment: Moment
) -> list[Finding]:
    return [finding for check in checks for finding in check(told, moment)]
