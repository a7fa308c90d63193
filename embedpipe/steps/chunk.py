"""Chunk: group the deltas of an execution, then sort and pack each group into one intermediate file."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from embedpipe import events
from embedpipe.errors import CorruptData, NewerSchema, NotFound, PreconditionFailed
from embedpipe.stages import chunk as decide
from embedpipe.steps.context import Context, download_checked, read, read_delta
from embedpipe.wire import Chunk, Chunked, Damaged, DeltaRef, Packed, Result, dump_many

PACKED_BATCH_ROWS = 2_048
"""[ours] 12 MB at 1,536 dimensions."""


def split(
    ctx: Context, *, execution_id: str, poll_results_s3_key: str, poll_results_s3_bucket: str | None = None
) -> Chunked:
    """Group the deltas of `poll_results.json`. The first groups stored for an execution are its groups for good.

    A merge journals the deltas of a group by its list: a list that changed under a packed group would leave some out.
    """
    results = Result.load_many(ctx.objects.get(poll_results_s3_key).data, poll_results_s3_key)
    planned = decide.chunks(decide.deltas(results), execution_id=execution_id, chunk_rows=ctx.policy.chunk_rows)
    key = ctx.layout.chunks_key(execution_id)
    with suppress(PreconditionFailed):  # a delivery of the same execution was first
        ctx.objects.put(key, dump_many(planned), if_none_match=True)
    return decide.chunked(
        read_chunks(ctx, execution_id),
        execution_id=execution_id,
        inline_max=ctx.policy.inline_batches_max,
        key=key,
        bucket=ctx.objects.bucket,
        results=(poll_results_s3_key, poll_results_s3_bucket or ctx.objects.bucket),
    )


def read_chunks(ctx: Context, execution_id: str) -> tuple[Chunk, ...]:
    """The groups of an execution."""
    key = ctx.layout.chunks_key(execution_id)
    return Chunk.load_many(ctx.objects.get(key).data, key)


def process(ctx: Context, *, execution_id: str, index: int) -> Packed:
    """Sort and pack one group: each id once, under its greatest claim. A damaged delta is left out and named."""
    from embedpipe.stages.streams import merged, rebatched
    from embedpipe.vectors import sha256_file, write_arrow

    chunks = read_chunks(ctx, execution_id)
    if index >= len(chunks):
        key = ctx.layout.chunks_key(execution_id)
        raise CorruptData(f"{key} has {len(chunks)} chunks, and none with the index {index}.", key=key)
    chunk = chunks[index]
    damaged: list[Damaged] = []
    with ctx.scratch() as folder:
        deltas = [table for ref in chunk.deltas if (table := mapped_delta(ctx, ref, folder, damaged)) is not None]
        report_damaged(ctx, damaged, execution_id)
        if not deltas:
            return _packed(ctx, chunk, damaged)
        schema = deltas[0].schema
        streams = [table.to_batches() for table in deltas]
        path = folder / "packed.arrow"
        rows = write_arrow(path, schema, rebatched(merged(streams, schema), PACKED_BATCH_ROWS))
        key = ctx.layout.intermediate_key(execution_id, chunk.chunk_id)
        ctx.objects.upload(key, path)
        packed = _packed(ctx, chunk, damaged, key=key, rows=rows, sha256=sha256_file(path))
        ctx.objects.put(ctx.layout.packed_key(execution_id, chunk.chunk_id), packed.dump())
    return packed


def _packed(
    ctx: Context,
    chunk: Chunk,
    damaged: list[Damaged],
    *,
    key: str | None = None,
    rows: int = 0,
    sha256: str | None = None,
) -> Packed:
    return Packed(
        index=chunk.index,
        chunk_id=chunk.chunk_id,
        intermediate_s3_key=key,
        intermediate_s3_bucket=ctx.objects.bucket,
        rows=rows,
        damaged=tuple(damaged),
        sha256=sha256,
    )


def packed_file(ctx: Context, execution_id: str, chunk: Chunk, folder: Path, damaged: list[Damaged]) -> Path | None:
    """The intermediate file of a chunk, its hash checked. None where its iteration failed, or the file is not that one."""
    from embedpipe.vectors import sha256_file

    path = folder / f"{chunk.chunk_id}.arrow"
    key = ctx.layout.intermediate_key(execution_id, chunk.chunk_id)
    try:
        found = read(ctx, Packed, ctx.layout.packed_key(execution_id, chunk.chunk_id))
        if found is None:
            return None
        ctx.objects.download(key, path)
        if sha256_file(path) == found[0].sha256:
            return path
        reason = f"{key} fails its hash."
    except NewerSchema:
        raise
    except (CorruptData, NotFound) as error:
        reason = error.message
    damaged += (Damaged(batch_id=ref.batch_id, delta_key=ref.delta_key, reason=reason) for ref in chunk.deltas)
    return None


def report_damaged(ctx: Context, damaged: Iterable[Damaged], execution_id: str) -> None:
    """Tell of deltas that are left out; their batches stay open."""
    for entry in damaged:
        ctx.on_event(events.DeltaLeftOut(execution_id=execution_id, batch_id=entry.batch_id, reason=entry.reason))


def mapped_delta(ctx: Context, ref: DeltaRef, folder: Path, damaged: list[Damaged]) -> Any:
    """The vectors of one delta as a table, its hash checked; None, and an entry in `damaged`, where it can't be used.

    The file is mapped and closed again: there may be more deltas than a process may have files open.
    """
    from embedpipe.vectors import open_arrow, vectors_schema

    try:
        delta = read_delta(ctx, ref.delta_key, ref.delta_sha256)
        if delta.batch_id != ref.batch_id:  # perhaps of another collection, whose records are none of ours
            raise CorruptData(f"{ref.delta_key} is the delta of batch {ascii(delta.batch_id)[:80]}")
        if delta.dimensions != ctx.model.dimensions:
            raise CorruptData(f"its vectors have {delta.dimensions} dimensions, not {ctx.model.dimensions}")
        if delta.model != ctx.model.name:
            raise CorruptData(f"its vectors are of model {ascii(delta.model)[:80]}, not '{ctx.model.name}'")
        path = download_checked(ctx, ref.delta_key, delta, ctx.layout.vectors_file, folder)
        with open_arrow(path, vectors_schema(delta.dimensions)) as file:
            return file.table()
    except (CorruptData, NotFound) as error:
        damaged.append(Damaged(batch_id=ref.batch_id, delta_key=ref.delta_key, reason=error.message))
        return None
