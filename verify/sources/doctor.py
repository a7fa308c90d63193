"""`embedpipe verify doctor`: one cheap read of each source, and what to fix. It judges no batch.

The rule kept here: a read that fails says which resource, and which permission or setting mends it; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice

import attrs

from embedpipe.errors import EXIT_INCOMPLETE, EXIT_OK, CorruptData, EmbedpipeError, NotFound
from embedpipe.lifecycle import Status
from embedpipe.model import BUILT_IN_KINDS, BatchRow
from embedpipe.wire import Latest, Result
from verify.audit.checks.logs import EVENT
from verify.audit.keys import seen
from verify.audit.ports import STANDARD
from verify.audit.sources import Source

__all__ = ["Examination", "Examined", "examine"]

OK, FAILED, SKIPPED = "ok", "failed", "out of scope"
RECENT: timedelta = timedelta(days=1)
"""[ours] How far back a log group is asked."""
KEYS_LOOKED_AT: int = 1_000
"""[ours] Keys among which an object to parse is looked for: one page."""
PROMISED: tuple[str, ...] = ("provider_batch_id", "submitted_at", "request_count", "seq")
"""Fields of a row without which something can't be proven."""


@attrs.frozen(kw_only=True)
class Examined:
    """One read."""

    source: str
    read: str
    outcome: str
    said: str = ""
    fix: str = ""

    @property
    def failed(self) -> bool:
        """Whether something has to be mended."""
        return self.outcome == FAILED


@attrs.frozen(kw_only=True)
class Examination:
    """All reads."""

    source: str
    reads: tuple[Examined, ...]

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return EXIT_INCOMPLETE if any(read.failed for read in self.reads) else EXIT_OK


def examine(source: Source) -> Examination:
    """Read a little of everything in scope. Raises nothing for what can't be read."""
    doctor = _Doctor(source)
    return Examination(source=source.name, reads=tuple(doctor.reads()))


class _Doctor:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._batch_id = ""
        """A batch that the index or a listing names."""
        self._result_key = ""

    def reads(self) -> Iterator[Examined]:
        yield from self._objects()
        yield from self._table()
        yield from self._vectors()
        yield from self._provider()
        yield from self._machines()
        yield from self._groups()

    def _try(self, source: str, read: str, work: Callable[[], str]) -> Examined:
        try:
            return Examined(source=source, read=read, outcome=OK, said=work())
        except EmbedpipeError as error:
            return Examined(source=source, read=read, outcome=FAILED, said=error.message, fix=error.hint)

    def _scope(self, source: str, option: str) -> Examined:
        reason = self._source.unreachable.get(source)
        if reason is not None:
            return Examined(source=source, read="open", outcome=FAILED, said=reason)
        return Examined(source=source, read="open", outcome=SKIPPED, said=f"not named; {option} names it")

    # --- stores ----------------------------------------------------------------------------------------------------

    def _objects(self) -> Iterator[Examined]:
        if "objects" in self._source.absent:
            yield self._scope("objects", "--bucket")
            return
        yield self._try("objects", "list", self._list)
        if self._result_key:
            yield self._try("objects", "get and parse", self._parse)

    def _list(self) -> str:
        for number, entry in enumerate(islice(seen(self._source.objects, self._source.layout), KEYS_LOOKED_AT), 1):
            if entry.what == "result":
                self._result_key, self._batch_id = entry.info.key, entry.id
                return f"{number} keys read; {entry.info.key} is a result"
        return f"no result of a batch below {self._source.layout.result.partition('{')[0]!a} yet"

    def _parse(self) -> str:
        result = Result.load(self._source.objects.get(self._result_key).data, self._result_key)
        return f"{self._result_key} is a result: batch_id, action {result.action}"

    def _table(self) -> Iterator[Examined]:
        if "table" in self._source.absent:
            yield self._scope("table", "--table")
            return
        yield self._try("table", "query the index", self._query)
        yield self._try("table", "get a row", self._row)

    def _query(self) -> str:
        types = {kind.batch_type for kind in self._source.kinds or BUILT_IN_KINDS.values()}
        for batch_type in sorted(types):
            for status in Status:
                name = next(iter(self._source.table.by_status(batch_type, status)), None)
                if name is not None:
                    self._batch_id = name
                    return f"{self._source.layout.index_name} has batches of type {batch_type} in status {status}"
        return f"{self._source.layout.index_name} answers, and has no batch of {', '.join(sorted(types))}"

    def _row(self) -> str:
        name = self._batch_id or "no-such-batch"
        row = self._source.table.get_many([name]).get(name)
        if not isinstance(row, BatchRow):
            return "it answers; there is no row to look at yet"
        missing = [field for field in PROMISED if getattr(row, field) is None]
        lacking = f"; it has no {', '.join(missing)}, so what rests on that stays unproven" if missing else ""
        return f"the row of {name} has status {row.status}{lacking}"

    def _vectors(self) -> Iterator[Examined]:
        if self._source.vectors is None:
            yield self._scope("vectors", "[vectors] of --config")
            return
        yield self._try("vectors", "open what is published", self._published)

    def _published(self) -> str:
        source = self._source
        assert source.vectors is not None
        for kind in source.kinds or BUILT_IN_KINDS.values():
            key = source.layout.latest_key(kind.database)
            try:
                version = Latest.load(source.objects.get(key).data, key).version
            except NotFound:
                continue
            with source.vectors.reading(kind.database, kind.collection, version=version):
                return f"collection {kind.collection} of {kind.database} opens"
        return "nothing is published yet"

    def _provider(self) -> Iterator[Examined]:
        provider = self._source.provider
        if provider is None:
            yield self._scope("provider", "[provider] of --config")
            return
        yield self._try(
            "provider", "list batches", lambda: f"{len(list(islice(provider.list(), 1)))} batch seen: its key works"
        )

    # --- executions ------------------------------------------------------------------------------------------------

    def _machines(self) -> Iterator[Examined]:
        if not self._source.machines:
            yield self._scope("histories", "--state-machine-arn")
        for machine in self._source.machines:
            short = machine.rpartition(":")[2]
            yield self._try("histories", f"describe {short}", lambda machine=machine: self._machine(machine))  # type: ignore[misc]
            yield self._try("histories", f"read a history of {short}", lambda machine=machine: self._history(machine))  # type: ignore[misc]

    def _machine(self, machine: str) -> str:
        assert self._source.histories is not None
        kind = self._source.histories.type_of(machine)
        if kind != STANDARD:
            raise CorruptData(
                f"It is of type {kind}, which keeps no histories.", hint="Only STANDARD machines can be audited."
            )
        return f"type {kind}"

    def _history(self, machine: str) -> str:
        histories = self._source.histories
        assert histories is not None
        run = next(histories.runs(machine), None)
        if run is None:
            return "it has no execution yet"
        again = histories.run(machine, run.name)
        events = len(list(islice(histories.events(run.arn), 1)))
        return f"execution {again.name} is {again.status}, and its history {'opens' if events else 'is empty'}"

    def _groups(self) -> Iterator[Examined]:
        if not self._source.log_groups:
            yield self._scope("logs", "--log-group")
        for group in self._source.log_groups:
            yield self._try("logs", f"read {group}", lambda group=group: self._group(group))  # type: ignore[misc]

    def _group(self, group: str) -> str:
        logs = self._source.logs
        assert logs is not None
        days = logs.kept_days(group)
        now = self._source.clock.now()
        lines = list(islice(logs.lines(group, containing=EVENT, since=now - RECENT, until=now), 1))
        kept = f"kept for {days} days" if days else "kept for ever"
        return f"lines are {kept}; {'one' if lines else 'none'} of {EVENT} in the last day"
