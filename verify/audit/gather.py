"""Reading what belongs to one batch or one execution, once for the audit and once more before something is reported."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.errors import CorruptData
from embedpipe.model import BatchRow, BlobInfo
from embedpipe.wire import Head, Result
from verify.audit.checks import Depth
from verify.audit.deltas import downloaded, key_columns, read_delta, sha256_of
from verify.audit.entries import Entry, Indexed, Opened, Provided, Stored, only
from verify.audit.executions import Execution, facts_by_batch, read_execution
from verify.audit.keys import EXECUTION_KEYS
from verify.audit.objects import Unreadable, envelope, guarded, too_large
from verify.audit.rows import Batch, healthy_rows
from verify.audit.sources import Source

__all__ = ["Gatherer", "opened", "stored"]

EXECUTIONS_KEPT: Final = 2
"""[ours] Executions whose facts are kept while findings are confirmed; bounds memory."""


def opened(key: str, head: Head) -> Iterator[tuple[str, Opened]]:
    """The open batches of a ledger."""
    for root in head.open:
        yield root.batch_id, Opened(key, root.seq, root.submitted_at)


def stored(info: BlobInfo) -> Stored:
    """A register that was listed."""
    return Stored(info.size_bytes, info.modified_at.timestamp())


@attrs.define(kw_only=True)
class Gatherer:
    """Reads batches. For one thread."""

    source: Source
    depth: Depth
    folder: Path
    head_keys: tuple[str, ...] = ()
    unseen_heads: set[str] = attrs.field(factory=set)
    """Ledgers that could not be looked at."""
    _facts: OrderedDict[str, Mapping[str, list[Entry]]] = attrs.field(factory=OrderedDict)

    def heads(self, keys: Iterable[str]) -> Iterator[tuple[str, Head | Unreadable]]:
        """The ledgers at these keys."""
        for key in keys:
            head = envelope(self.source.objects, Head, key)
            if isinstance(head, Unreadable) and not head.is_fault:
                self.unseen_heads.add(key)
            yield key, head

    # --- batches ---------------------------------------------------------------------------------------------------

    def batches(
        self,
        block: Sequence[tuple[str, tuple[Entry, ...]]],
        *,
        wanted: Callable[[Batch], bool] = lambda _: True,
    ) -> Iterator[Batch]:
        """A block of batches, their rows looked up together. Of those not `wanted` nothing but the row is read."""
        rows = healthy_rows(self.source.table, [name for name, _ in block])
        known = [row for row in rows.values() if isinstance(row, BatchRow)]
        retries = healthy_rows(self.source.table, [name for row in known for name in row.retry_batch_ids])
        for name, entries in block:
            row = rows.get(name)
            named = row.retry_batch_ids if isinstance(row, BatchRow) else ()
            plain = self._plain(name, entries, row, frozenset(named) & retries.keys())
            yield self._whole(plain) if wanted(plain) else plain

    def _plain(
        self, name: str, entries: tuple[Entry, ...], row: BatchRow | Unreadable | None, retries: frozenset[str]
    ) -> Batch:
        return Batch(
            batch_id=name,
            entries=entries,
            row=row,
            register_key=self.source.layout.result_key(name),
            retry_rows=retries,
            ledger_unseen=not self.unseen_heads.isdisjoint(self._head_of(row)),
        )

    def _whole(self, plain: Batch) -> Batch:
        """With everything that the depth reads."""
        if not self.depth.reads_content or not (plain.entries or plain.row):
            return plain
        # After the row: a row that has ended has a register, whoever ends it meanwhile.
        there = plain.is_stored or plain.known_row is not None
        register = self._register(plain) if there else None
        read = attrs.evolve(plain, register=register)
        return attrs.evolve(read, delta=self._delta(read), records=self._records(read))

    def _register(self, plain: Batch) -> Result | Unreadable:
        size_bytes = max((entry.size_bytes for entry in only(plain.entries, Stored)), default=0)
        key = plain.register_key
        return too_large(key, size_bytes) or envelope(self.source.objects, Result, key)

    def _delta(self, batch: Batch) -> Any:
        result = batch.terminal_result
        if result is None or not result.delta_key or batch.row is None:
            return None
        return read_delta(
            self.source.objects, self.source.layout, result, self.folder, signed=self.depth is Depth.VECTORS
        )

    def _records(self, batch: Batch) -> Any:
        row = batch.known_row
        if row is None or row.seq is None:
            return None
        key = self.source.layout.records_key(batch.batch_id)
        return guarded(key, lambda: self._record_keys(key, row.records_sha256))

    def _record_keys(self, key: str, sha256: str | None) -> Any:
        with downloaded(self.source.objects, key, self.folder) as path:
            ours = sha256_of(path)
            if sha256 is not None and ours != sha256:
                raise CorruptData(f"{key} has SHA-256 {ours}, and its row says {sha256}.")
            return key_columns(path)

    # --- executions ------------------------------------------------------------------------------------------------

    def execution(self, execution_id: str, present: Mapping[str, BlobInfo]) -> Execution:
        """The objects of one execution."""
        return read_execution(
            self.source.objects, self.source.layout, execution_id, present, content=self.depth.reads_content
        )

    def execution_again(self, execution_id: str) -> Execution:
        """The same, looked up anew."""
        return self.execution(execution_id, self._present(execution_id))

    def _present(self, execution_id: str) -> dict[str, BlobInfo]:
        layout = self.source.layout
        keys = {what: getattr(layout, what).format(execution_id=execution_id) for what in EXECUTION_KEYS}
        found = {what: self._info(key) for what, key in keys.items()}
        return {what: info for what, info in found.items() if info is not None}

    def _info(self, key: str) -> BlobInfo | None:
        info = next(iter(self.source.objects.list(key)), None)
        return info if info is not None and info.key == key else None

    # --- a second reading ------------------------------------------------------------------------------------------

    def again(self, batch: Batch) -> Batch:
        """The same batch, with everything that it rests on read anew; only the index is not asked again."""
        row = healthy_rows(self.source.table, [batch.batch_id]).get(batch.batch_id)
        names = dict.fromkeys([*batch.executions, *_completed_by(row)])
        fresh: list[Entry] = [*only(batch.entries, Indexed), *only(batch.entries, Provided)]
        for key, head in self.heads(dict.fromkeys([*self.head_keys, *self._head_of(row)])):
            if isinstance(head, Head):
                fresh += [entry for name, entry in opened(key, head) if name == batch.batch_id]
        info = self._info(self.source.layout.result_key(batch.batch_id))
        fresh += [stored(info)] if info is not None else []
        for execution_id in names:
            fresh += self._facts_of(execution_id).get(batch.batch_id, [])
        found = next(self.batches([(batch.batch_id, tuple(fresh))]))
        # A row that appeared after the ledger was read may have its entry by now.
        return self.again(found) if row is None and found.row is not None else found

    def _head_of(self, row: BatchRow | Unreadable | None) -> tuple[str, ...]:
        """The ledger of a row's collection, which may not have been there when ledgers were looked for."""
        if not isinstance(row, BatchRow) or row.database is None or row.collection is None:
            return ()
        return (self.source.layout.head_key(row.database, row.collection),)

    def _facts_of(self, execution_id: str) -> Mapping[str, list[Entry]]:
        if execution_id not in self._facts:
            found: dict[str, list[Entry]] = {}
            for name, entry in facts_by_batch(self.execution_again(execution_id)):
                found.setdefault(name, []).append(entry)
            self._facts[execution_id] = found
            while len(self._facts) > EXECUTIONS_KEPT:
                self._facts.popitem(last=False)
        return self._facts[execution_id]


def _completed_by(row: BatchRow | Unreadable | None) -> tuple[str, ...]:
    return (row.completed_by,) if isinstance(row, BatchRow) and row.completed_by else ()
