"""Final merge: join the packed chunks into the collection and its catalog, and publish the version.

Oldest first, within a row and a time budget, then `more`. In place, one writer holds the lock, journals what it writes, reads
back what it wrote, and publishes the catalog as its receipt. Otherwise the pointer's compare-and-swap decides. Time may run out
within a group: rows are taken in the order of their ids, so what was taken is published, and the next call finds it there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from embedpipe import events
from embedpipe.errors import CorruptData, NotFound, PreconditionFailed, WriteConflict
from embedpipe.ports import Collection, Edition
from embedpipe.stages.creation import check_collection
from embedpipe.stages.merge import Counts, ancestors_of, join, version_name, won
from embedpipe.steps import journal
from embedpipe.steps.chunk import packed_file, read_chunks, report_damaged
from embedpipe.steps.context import Base, Context, download_catalog, read_base
from embedpipe.steps.journal import Inheritance
from embedpipe.steps.upsert import read_back, to_vector_rows
from embedpipe.wire import Chunk, Damaged, Latest, Merged, Snapshot

CATALOG_BATCH_ROWS = 65_536
"""[ours] About 3 MB; bounds the memory of a join and keeps its loop short."""


@attrs.frozen(kw_only=True)
class _Outcome:
    """What became of a group."""

    counts: Counts = attrs.field(factory=Counts)
    version: str | None
    finished: bool = True
    """False where time ran out first: the group is merged again, and what is in the catalog by then costs nothing."""


@attrs.frozen(kw_only=True)
class _Group:
    """Neighbouring chunks that one version takes in."""

    chunks: tuple[Chunk, ...]
    paths: tuple[Path, ...]
    next_chunk: int

    @property
    def rows(self) -> int:
        return sum(ref.embedding_count for chunk in self.chunks for ref in chunk.deltas)


def final_merge(
    ctx: Context,
    *,
    execution_id: str,
    poll_results_s3_key: str,
    poll_results_s3_bucket: str | None = None,
    next_chunk: int = 0,
) -> Merged:
    """Merge chunks from `next_chunk` on, until none is left or the time budget is used up."""
    chunks = read_chunks(ctx, execution_id)
    until_s = ctx.clock.monotonic_s() + ctx.policy.merge_budget_s
    total = Counts()
    # Without chunks there may still be a dead writer's journal to finish.
    while True:
        ctx.checkpoint()
        with ctx.scratch() as folder:
            group = _gather(ctx, chunks, next_chunk, execution_id, folder)
            done = _merge(ctx, group, execution_id, folder, until_s)
        total += done.counts
        next_chunk = group.next_chunk if done.finished else next_chunk
        if not done.finished or next_chunk >= len(chunks) or ctx.clock.monotonic_s() >= until_s:
            break
    return Merged(
        more=next_chunk < len(chunks),
        next_chunk=next_chunk,
        version=done.version,
        inserted=total.inserted,
        replaced=total.replaced,
        equal=total.equal,
        superseded=total.superseded,
        poll_results_s3_key=poll_results_s3_key,
        poll_results_s3_bucket=poll_results_s3_bucket or ctx.objects.bucket,
    )


def _gather(ctx: Context, chunks: Sequence[Chunk], start: int, execution_id: str, folder: Path) -> _Group:
    """Download neighbouring intermediates up to the row budget. A chunk without one is passed over."""
    taken: list[Chunk] = []
    paths: list[Path] = []
    damaged: list[Damaged] = []
    rows = 0
    at = start
    while at < len(chunks):
        size = sum(ref.embedding_count for ref in chunks[at].deltas)
        if taken and rows + size > ctx.policy.merge_rows:
            break
        path = packed_file(ctx, execution_id, chunks[at], folder, damaged)
        if path is not None:
            taken.append(chunks[at])
            paths.append(path)
            rows += size
        at += 1
    report_damaged(ctx, damaged, execution_id)
    return _Group(chunks=tuple(taken), paths=tuple(paths), next_chunk=at)


def _merge(ctx: Context, group: _Group, execution_id: str, folder: Path, until_s: float) -> _Outcome:
    for _ in range(ctx.policy.merge_conflicts_max):
        base = read_base(ctx)
        if not group.paths and not journal.to_finish(ctx):
            return _Outcome(version=base.version)
        done = _merge_once(ctx, base, group, execution_id, folder, until_s)
        if done is not None:
            return done
        if ctx.clock.monotonic_s() >= until_s:
            return _Outcome(version=base.version, finished=False)
    raise WriteConflict(
        f"Publishing a version of '{ctx.kind.database}' lost {ctx.policy.merge_conflicts_max} races.",
        hint="Run again when fewer executions merge at once.",
    )


def _merge_once(
    ctx: Context, base: Base, group: _Group, execution_id: str, folder: Path, until_s: float
) -> _Outcome | None:
    """One attempt; None where another version was published meanwhile."""
    with ctx.vectors.editing(
        ctx.kind.database, ctx.kind.collection, version=base.version, dimensions=ctx.model.dimensions
    ) as edition:
        if edition.in_place:
            base = read_base(ctx)  # the lock is ours: until we publish, nobody else does
        elif read_base(ctx).version != base.version:
            return None  # while this editor waited for another
        if base.snapshot is not None:
            check_collection(ctx.kind, ctx.model, (base.snapshot.model, base.snapshot.dimensions))
            if edition.in_place:
                _check_count(ctx, edition.collection.count(), base.snapshot)
        with ExitStack() as stack:
            return _edit(ctx, edition, base, group, execution_id, folder, stack, until_s)


def _edit(
    ctx: Context,
    edition: Edition,
    base: Base,
    group: _Group,
    execution_id: str,
    folder: Path,
    stack: ExitStack,
    until_s: float,
) -> _Outcome | None:
    from embedpipe.stages.streams import bounded, merged
    from embedpipe.vectors import open_arrow, vectors_schema

    schema = vectors_schema(ctx.model.dimensions)
    streams = [stack.enter_context(open_arrow(path, schema)).batches() for path in group.paths]
    damaged: list[Damaged] = []
    inherited = journal.take_over(ctx, folder, damaged) if edition.in_place else journal.Inheritance()
    report_damaged(ctx, damaged, execution_id)
    if edition.in_place:
        journal.begin(ctx, group.chunks, inherited, execution_id)
    attempt = _Attempt(
        ctx=ctx,
        base=base,
        version=version_name(base.latest.n + 1 if base.latest else 1, ctx.clock.new_id()),
        execution_id=execution_id,
        folder=folder,
        rows_max=group.rows,
        # A dead writer's rows are written in one go, for the journal that names them ends with this version.
        until_s=math.inf if inherited.deltas else until_s,
    )
    sorted_rows = merged([*streams, *(table.to_batches() for table in inherited.tables)], schema)
    rows = bounded(sorted_rows, ctx.policy.upsert_rows)
    counts = attempt.write(edition.collection, rows, schema, inherited)
    finished = next(rows, None) is None
    version = base.version
    if counts.changed:
        if not attempt.publish(edition):
            return None
        version = attempt.version
    if edition.in_place:
        if not counts.changed:
            edition.seal(attempt.prefix)  # a dead writer's rows were written again: durable before its journal goes
        journal.end(ctx, inherited, execution_id)
    return _Outcome(counts=counts, version=version, finished=finished)


def check_published(ctx: Context, base: Base) -> None:
    """`CorruptData` where the published collection, if it is merged in place, has lost rows."""
    if base.snapshot is None or not base.snapshot.in_place:
        return
    try:
        with ctx.vectors.reading(ctx.kind.database, ctx.kind.collection, version=base.snapshot.version) as collection:
            count = collection.count()
    except NotFound:
        count = 0
    _check_count(ctx, count, base.snapshot)


def _check_count(ctx: Context, count: int, snapshot: Snapshot) -> None:
    if count < snapshot.count:
        raise CorruptData(
            f"Collection '{ctx.kind.collection}' holds {count} rows; its published catalog names {snapshot.count}.",
            hint="Restore the vector store's files from a backup, or embed again into another root.",
        )


# --- one attempt at a version --------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Attempt:
    """The version that this call tries to publish."""

    ctx: Context
    base: Base
    version: str
    execution_id: str
    folder: Path
    rows_max: int
    until_s: float

    @property
    def prefix(self) -> str:
        """Where the version's objects are."""
        return self.ctx.layout.snapshot_prefix(self.ctx.kind.database, self.version)

    @property
    def path(self) -> Path:
        return self.folder / f"catalog-new-{self.version}.arrow"

    def write(self, collection: Collection, rows: Iterator[Any], schema: Any, inherited: Inheritance) -> Counts:
        """Join, upsert what wins, read it back, and write the new catalog to a local file. `rows` are taken while time is left.

        One block at least is written, so that every call gets somewhere.
        """
        from embedpipe.stages.streams import rebatched
        from embedpipe.vectors import arrow_writer, catalog_schema, open_arrow

        ctx, counts, written, most = self.ctx, Counts(), 0, self.ctx.policy.upsert_rows
        pending: list[Any] = []
        with ExitStack() as stack:
            old_path = download_catalog(ctx, self.base, self.folder)
            old = stack.enter_context(open_arrow(old_path, catalog_schema())).batches() if old_path else ()
            catalog = stack.enter_context(arrow_writer(self.path, catalog_schema()))

            def taken() -> Iterator[Any]:
                while not written or ctx.clock.monotonic_s() < self.until_s:
                    if (batch := next(rows, None)) is None:
                        return
                    yield batch

            joined = join(
                old,
                taken(),
                catalog_schema=catalog_schema(),
                rows_schema=schema,
                distrusted=inherited.ids,
                distrust_all=bool(inherited.suspects),
            )

            def kept() -> Iterator[Any]:
                nonlocal counts, written
                for window in joined:
                    counts += window.counts
                    yield from window.catalog.to_batches()
                    if window.upserts is not None:
                        pending.append(window.upserts)
                        while sum(part.num_rows for part in pending) >= most:
                            written += self._upsert(collection, pending, most, written)

            for batch in rebatched(kept(), CATALOG_BATCH_ROWS):
                catalog.write(batch)
            while pending:
                written += self._upsert(collection, pending, most, written)
        return counts

    def _upsert(self, collection: Collection, pending: list[Any], most: int, before: int) -> int:
        """Write the first `most` of the pending rows and read them back."""
        import pyarrow as pa

        rows = pa.concat_tables(pending)
        block = to_vector_rows(rows.slice(0, most))
        pending[:] = [rows.slice(most)] if rows.num_rows > most else []
        collection.upsert(block)
        read_back(collection, block)
        done = before + len(block.ids)
        total = max(done, self.rows_max)
        self.ctx.on_event(events.RowsMerged(execution_id=self.execution_id, rows=done, total=total))
        return len(block.ids)

    def publish(self, edition: Edition) -> bool:
        """Store the version, then move the pointer. False where another version won."""
        from embedpipe.vectors import open_arrow, sha256_file

        ctx, base = self.ctx, self.base
        with open_arrow(self.path) as file:
            count = file.rows
        snapshot = Snapshot(
            version=self.version,
            n=base.latest.n + 1 if base.latest else 1,
            parent=base.version,
            ancestors=ancestors_of(base.snapshot),
            database=ctx.kind.database,
            collection=ctx.kind.collection,
            model=ctx.model.name,
            dimensions=ctx.model.dimensions,
            count=count,
            catalog_sha256=sha256_file(self.path),
            in_place=edition.in_place,
            execution_id=self.execution_id,
            created_at=ctx.now_text(),
        )
        edition.seal(self.prefix)
        ctx.objects.upload(self.prefix + ctx.layout.catalog_file, self.path)
        data = snapshot.dump()
        ctx.objects.put(self.prefix + ctx.layout.snapshot_file, data)
        latest = Latest(version=self.version, n=snapshot.n, sha256=hashlib.sha256(data).hexdigest())
        if not self._move_pointer(latest):
            return False
        ctx.on_event(events.Published(execution_id=self.execution_id, version=self.version, count=count))
        return True

    def _move_pointer(self, latest: Latest) -> bool:
        ctx, etag = self.ctx, self.base.etag
        key = ctx.layout.latest_key(ctx.kind.database)
        try:
            ctx.objects.put(key, latest.dump(), if_none_match=etag is None, if_match=etag)
        except (PreconditionFailed, WriteConflict):
            now = read_base(ctx)
            return won(latest.version, now.latest, now.snapshot)
        return True
