"""The auditor's own ports: what ran, as the engine of state machines remembers it, and what functions logged. Read only.

The rule kept here: every call is one page, so that a page that fails for load is asked again and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs

from verify.audit.calls import Calls

__all__ = ["HISTORY_KEPT_DAYS", "Histories", "LogLine", "Logs", "MapRun", "Page", "PagedHistories", "PagedLogs", "Run"]

T = TypeVar("T")

HISTORY_KEPT_DAYS: Final = 90
"""[aws] How long the history of an ended execution is kept."""
STANDARD: Final = "STANDARD"
"""The type of machine that keeps histories."""

Event = Mapping[str, Any]
"""One event, as `GetExecutionHistory` gives it."""


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """Some values, and the token of those that follow."""

    values: tuple[T, ...]
    following: str | None = None


@attrs.frozen(kw_only=True)
class Run:
    """One execution of a state machine."""

    arn: str
    name: str
    status: str
    started_at: datetime
    stopped_at: datetime | None = None

    @property
    def running(self) -> bool:
        """Whether it may still go on."""
        return self.status in ("RUNNING", "PENDING_REDRIVE")

    @property
    def succeeded(self) -> bool:
        """Whether it says that all is well."""
        return self.status == "SUCCEEDED"


@attrs.frozen(kw_only=True)
class MapRun:
    """How many items a Distributed Map had, and how many of them succeeded."""

    total: int
    succeeded: int


@attrs.frozen(kw_only=True)
class LogLine:
    """One message of a log group."""

    at: datetime
    message: str


class Histories(Protocol):
    """What ran. `NotFound` where an execution, or its history, is not kept any longer."""

    def type_of(self, machine: str) -> str:
        """`STANDARD` or `EXPRESS`; the latter keeps no histories. `ConfigError` where there is no such machine."""
        ...

    def runs(self, machine: str, token: str | None = None) -> Page[Run]:
        """Its executions, the newest first."""
        ...

    def run(self, machine: str, name: str) -> Run:
        """One execution by its name."""
        ...

    def events(self, arn: str, token: str | None = None) -> Page[Event]:
        """The events of an execution, the first one first."""
        ...

    def map_run(self, arn: str) -> MapRun:
        """The counts of one Distributed Map."""
        ...


class Logs(Protocol):
    """What was logged."""

    def kept_days(self, group: str) -> int | None:
        """How long lines are kept; None: for ever. `ConfigError` where there is no such group."""
        ...

    def lines(
        self, group: str, *, containing: str, since: datetime, until: datetime, token: str | None = None
    ) -> Page[LogLine]:
        """Lines that contain a text, in no order. A page may be empty and not the last."""
        ...


class PagedHistories:
    """Histories page by page, each call counted, and repeated while it fails for load."""

    def __init__(self, inner: Histories, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def type_of(self, machine: str) -> str:
        """As the port says."""
        return self._calls.make("histories.type_of", lambda: self._inner.type_of(machine))

    def runs(self, machine: str) -> Iterator[Run]:
        """All executions of a machine, the newest first."""
        token: str | None = None
        while True:
            page = self._calls.make("histories.runs", lambda token=token: self._inner.runs(machine, token))  # type: ignore[misc]
            yield from page.values
            token = page.following
            if not token:
                return

    def run(self, machine: str, name: str) -> Run:
        """As the port says."""
        return self._calls.make("histories.run", lambda: self._inner.run(machine, name))

    def events(self, arn: str) -> Iterator[Event]:
        """All events of an execution."""
        token: str | None = None
        while True:
            page = self._calls.make("histories.events", lambda token=token: self._inner.events(arn, token))  # type: ignore[misc]
            yield from page.values
            token = page.following
            if not token:
                return

    def map_run(self, arn: str) -> MapRun:
        """As the port says."""
        return self._calls.make("histories.map_run", lambda: self._inner.map_run(arn))


class PagedLogs:
    """Logs page by page, in the same way."""

    def __init__(self, inner: Logs, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def kept_days(self, group: str) -> int | None:
        """As the port says."""
        return self._calls.make("logs.kept_days", lambda: self._inner.kept_days(group))

    def lines(self, group: str, *, containing: str, since: datetime, until: datetime) -> Iterator[LogLine]:
        """All lines that contain a text."""
        token: str | None = None
        while True:

            def read(token: str | None = token) -> Page[LogLine]:
                return self._inner.lines(group, containing=containing, since=since, until=until, token=token)

            page = self._calls.make("logs.lines", read)
            yield from page.values
            token = page.following
            if not token:
                return
