"""The journal of a merge in place: what its writer may have written to the collection before the catalog says so.

It is written under the collection's lock, before the first row, and removed after the catalog is published. Who finds one
holds the lock, so its writer is dead: its deltas are merged again, and no `equal` among their ids is trusted. Where a delta,
or the journal itself, can't be read, nobody knows which ids those are: the batch becomes a suspect, and until it and its
retries have ended (its vectors are then proven, each written by somebody who trusted nothing) no `equal` is trusted at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from embedpipe.errors import CorruptData, NewerSchema
from embedpipe.lifecycle import OPEN
from embedpipe.steps.chunk import mapped_delta
from embedpipe.steps.context import Context, named, read, read_head, rows_and_retries
from embedpipe.wire import Chunk, Damaged, DeltaRef, Journal


@attrs.frozen(kw_only=True, eq=False)
class Inheritance:
    """What a merge takes over from a dead writer."""

    deltas: tuple[DeltaRef, ...] = ()
    tables: tuple[Any, ...] = ()
    """The vectors of those deltas that can be read, each sorted by id."""
    suspects: tuple[str, ...] = ()
    """Open batches whose rows may be in the collection, and nobody knows which."""

    @property
    def ids(self) -> Any:
        """The ids of all tables as one Arrow array; None without tables."""
        import pyarrow as pa

        if not self.tables:
            return None
        chunks = [chunk for table in self.tables for chunk in table.column("id").chunks]
        return pa.chunked_array(chunks, pa.string()).combine_chunks()


def to_finish(ctx: Context) -> bool:
    """Whether a merge that has nothing of its own to merge would still get anywhere with the journal."""
    found = find(ctx)
    if found is None:
        return False
    return bool(found.deltas) or not found.suspects or not _not_ended(ctx, found.suspects)


def find(ctx: Context) -> Journal | None:
    """The journal. Of one that can't be read, every open batch is a suspect."""
    try:
        found = read(ctx, Journal, ctx.layout.journal_key(ctx.kind.database))
    except NewerSchema:
        raise
    except CorruptData:
        return Journal(execution_id="", intermediates=(), deltas=(), suspects=_open_batches(ctx), started_at="")
    return found[0] if found else None


def take_over(ctx: Context, folder: Path, damaged: list[Damaged]) -> Inheritance:
    """Open what a dead writer left. The caller holds the collection's lock."""
    found = find(ctx)
    if found is None:
        return Inheritance()
    already = len(damaged)
    tables = [mapped_delta(ctx, ref, folder, damaged) for ref in found.deltas]
    unreadable = [entry.batch_id for entry in damaged[already:]]
    return Inheritance(
        deltas=found.deltas,
        tables=tuple(table for table in tables if table is not None),
        suspects=_not_ended(ctx, (*found.suspects, *unreadable)),
    )


def begin(ctx: Context, chunks: Sequence[Chunk], inherited: Inheritance, execution_id: str) -> None:
    """Write down what is about to be merged, before the first row of it is."""
    refs = {ref.delta_key: ref for ref in inherited.deltas}
    refs |= {ref.delta_key: ref for chunk in chunks for ref in chunk.deltas}
    _write(ctx, execution_id, [chunk.chunk_id for chunk in chunks], refs.values(), inherited.suspects)


def end(ctx: Context, inherited: Inheritance, execution_id: str) -> None:
    """The catalog says now what the collection holds: nothing is left to write down but suspects."""
    if inherited.suspects:
        _write(ctx, execution_id, (), (), inherited.suspects)
    else:
        ctx.objects.delete(ctx.layout.journal_key(ctx.kind.database))


def _write(
    ctx: Context, execution_id: str, chunk_ids: Iterable[str], deltas: Iterable[DeltaRef], suspects: Iterable[str]
) -> None:
    journal = Journal(
        execution_id=execution_id,
        intermediates=tuple(chunk_ids),
        deltas=tuple(deltas),
        suspects=tuple(suspects),
        started_at=ctx.now_text(),
    )
    ctx.objects.put(ctx.layout.journal_key(ctx.kind.database), journal.dump())


def _not_ended(ctx: Context, batch_ids: Sequence[str]) -> tuple[str, ...]:
    """Those that have not ended, and their retries; as far as anybody can tell: a row that can't be read has not."""
    rows = rows_and_retries(ctx, tuple(batch_ids))
    return tuple(name for name in named(batch_ids, rows) if name not in rows or rows[name].status in OPEN)


def _open_batches(ctx: Context) -> tuple[str, ...]:
    """Every batch of this collection that has not ended, by the ledger: the table's index may lag."""
    head, _ = read_head(ctx)
    roots = [root.batch_id for root in head.open] if head else []
    return _not_ended(ctx, roots)
