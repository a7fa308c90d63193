"""Histories and logs in memory: a fake that passes the contract suite, for tests and for what somebody recorded.

Histories are as `GetExecutionHistory` gives them, so that a recorded one is played back as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import attrs

from embedpipe.errors import ConfigError, NotFound
from verify.audit.ports import STANDARD, Event, LogLine, MapRun, Page, Run

if TYPE_CHECKING:
    from verify.audit.ports import Histories, Logs

__all__ = ["MemoryHistories", "MemoryLogs"]

T = TypeVar("T")


@attrs.define(kw_only=True)
class MemoryHistories:
    """Executions by the ARN of their machine."""

    machines: dict[str, list[Run]] = attrs.field(factory=dict)
    histories: dict[str, list[Event]] = attrs.field(factory=dict)
    types: dict[str, str] = attrs.field(factory=dict)
    """Those that are not `STANDARD`."""
    map_runs: dict[str, MapRun] = attrs.field(factory=dict)
    page: int = 1_000

    def add(self, machine: str, run: Run, events: Sequence[Event]) -> None:
        """Remember one execution."""
        self.machines.setdefault(machine, []).append(run)
        self.histories[run.arn] = list(events)

    def type_of(self, machine: str) -> str:
        """As the port says."""
        self._of(machine)
        return self.types.get(machine, STANDARD)

    def runs(self, machine: str, token: str | None = None) -> Page[Run]:
        """As the port says."""
        found = sorted(self._of(machine), key=lambda run: (run.started_at, run.name), reverse=True)
        return _page(found, token, self.page)

    def run(self, machine: str, name: str) -> Run:
        """As the port says."""
        for run in self._of(machine):
            if run.name == name:
                return run
        raise NotFound(f"There is no execution {name!a} of {machine}.")

    def events(self, arn: str, token: str | None = None) -> Page[Event]:
        """As the port says."""
        if arn not in self.histories:
            raise NotFound(f"There is no history of {arn}.")
        return _page(self.histories[arn], token, self.page)

    def map_run(self, arn: str) -> MapRun:
        """As the port says."""
        if arn not in self.map_runs:
            raise NotFound(f"There is no map run {arn}.")
        return self.map_runs[arn]

    def _of(self, machine: str) -> list[Run]:
        if machine not in self.machines:
            raise ConfigError(f"There is no state machine {machine}.", hint="Set --state-machine-arn.")
        return self.machines[machine]


@attrs.define(kw_only=True)
class MemoryLogs:
    """Lines by the name of their group."""

    groups: dict[str, list[LogLine]] = attrs.field(factory=dict)
    days: dict[str, int] = attrs.field(factory=dict)
    page: int = 10_000

    def add(self, group: str, at: datetime, message: str) -> None:
        """Remember one line."""
        self.groups.setdefault(group, []).append(LogLine(at=at, message=message))

    def kept_days(self, group: str) -> int | None:
        """As the port says."""
        self._of(group)
        return self.days.get(group)

    def lines(
        self, group: str, *, containing: str, since: datetime, until: datetime, token: str | None = None
    ) -> Page[LogLine]:
        """As the port says."""
        found = [line for line in self._of(group) if containing in line.message and since <= line.at <= until]
        return _page(found, token, self.page)

    def _of(self, group: str) -> list[LogLine]:
        if group not in self.groups:
            raise ConfigError(f"There is no log group {group!a}.", hint="Set --log-group.")
        return self.groups[group]


def _page(values: Sequence[T], token: str | None, size: int) -> Page[T]:
    start = int(token or 0)
    end = start + size
    return Page(values=tuple(values[start:end]), following=str(end) if end < len(values) else None)


if TYPE_CHECKING:
    _histories: type[Histories] = MemoryHistories
    _logs: type[Logs] = MemoryLogs
