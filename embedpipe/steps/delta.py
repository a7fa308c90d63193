"""The delta of one batch: written under a fresh id from what its files said, and looked at again before it is trusted.

`delta.json` comes last and names every other file with its hash, so that a delta without it does not exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embedpipe.errors import CorruptData, NotFound
from embedpipe.lifecycle import Action
from embedpipe.model import BatchRow
from embedpipe.stages.conclude import Conclusion, rejected_lines, retry_lines
from embedpipe.stages.fold import Fold
from embedpipe.steps.context import Context, download_checked, read_delta
from embedpipe.wire import Delta, FileHash, Result


def is_whole(ctx: Context, result: Result) -> bool:
    """Whether the delta of a terminal result is there, is of that batch, and passes its hashes."""
    if not result.delta_key:
        return False
    try:
        delta = read_delta(ctx, result.delta_key, result.delta_sha256)
        if delta.batch_id != result.batch_id:
            return False
        for file in delta.files:
            with ctx.scratch() as folder:
                download_checked(ctx, result.delta_key, delta, file.name, folder)
    except (CorruptData, NotFound):
        return False
    return True


def needs_none(result: Result, row: BatchRow) -> bool:
    """Whether it is a failure of the seed's design, which has no delta. Its partial results have vectors to be read again.

    A batch of ours has records to account for, whoever wrote the register: it is polled again.
    """
    return result.action is Action.HANDLE_FAILURE and not result.delta_key and row.request_count is None


def store(
    ctx: Context,
    row: BatchRow,
    conclusion: Conclusion,
    *,
    fold: Fold,
    records: Any,
    scratch: Any,
    folder: Path,
    execution_id: str,
) -> Result:
    """Store the delta under a fresh id, `delta.json` last, and return the result that names it.

    `records`: the batch's records as a table, None where it has none; `scratch`: the vectors, by the fold's slots.
    """
    delta_id = ctx.clock.new_id()
    prefix = ctx.layout.delta_prefix(ctx.kind.database, ctx.kind.collection, delta_id)
    vectors_path = folder / ctx.layout.vectors_file
    dimensions = scratch.dimensions or row.dimensions or ctx.model.dimensions
    write_vectors(vectors_path, row, conclusion.order, fold, records, scratch, dimensions)
    bodies = {
        ctx.layout.rejected_file: rejected_lines(conclusion.rejected),
        ctx.layout.retry_file: retry_lines(conclusion.retry),
    }
    files = [_upload_file(ctx, prefix, ctx.layout.vectors_file, vectors_path)]
    for name, data in bodies.items():
        ctx.objects.put(prefix + name, data)
        files.append(FileHash(name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)))
    delta = Delta(
        delta_id=delta_id,
        batch_id=row.batch_id,
        database=ctx.kind.database,
        collection=ctx.kind.collection,
        model=row.model or ctx.model.name,
        dimensions=dimensions,
        batch_status=conclusion.status,
        request_count=row.request_count,
        embedding_count=len(conclusion.order),
        rejected_count=len(conclusion.rejected),
        retry_count=len(conclusion.retry),
        files=tuple(files),
        notes=conclusion.notes,
        created_at=ctx.now_text(),
    )
    data = delta.dump()
    ctx.objects.put(prefix + ctx.layout.delta_file, data)
    return Result(
        batch_id=row.batch_id,
        openai_batch_id=row.provider_batch_id,
        batch_status=conclusion.status,
        action=conclusion.action,
        results_count=fold.lines,
        delta_id=delta_id,
        delta_key=prefix,
        embedding_count=delta.embedding_count,
        storage="s3_delta",
        collection=ctx.kind.collection,
        database=ctx.kind.database,
        rejected_count=delta.rejected_count,
        retry_count=delta.retry_count,
        delta_sha256=hashlib.sha256(data).hexdigest(),
        retry_sha256=files[2].sha256,
        execution_id=execution_id,
    )


def _upload_file(ctx: Context, prefix: str, name: str, path: Path) -> FileHash:
    from embedpipe.vectors import sha256_file

    entry = FileHash(name=name, sha256=sha256_file(path), size_bytes=path.stat().st_size)
    ctx.objects.upload(prefix + name, path)
    return entry


def write_vectors(
    path: Path, row: BatchRow, order: Sequence[int], fold: Fold, records: Any, scratch: Any, dimensions: int
) -> None:
    """Write `vectors.arrow`, sorted by id, block by block from the scratch file."""
    from embedpipe.vectors import vectors_schema, write_arrow

    schema = vectors_schema(dimensions)
    write_arrow(path, schema, _vector_batches(row, order, fold, records, scratch, schema))


def _vector_batches(
    row: BatchRow, order: Sequence[int], fold: Fold, records: Any, scratch: Any, schema: Any
) -> Iterator[Any]:
    import numpy as np
    import pyarrow as pa

    if not order:
        return
    slots = np.fromiter((fold.slots[at] for at in order), np.int64, len(order))
    start = 0
    for block in scratch.batches(slots):
        positions = order[start : start + len(block)]
        start += len(block)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[1])
        columns = {**_columns(row, positions, fold, records, block), "vector": vectors}
        yield pa.record_batch([columns[field.name] for field in schema], schema=schema)


def _columns(row: BatchRow, positions: Sequence[int], fold: Fold, records: Any, block: Any) -> dict[str, Any]:
    import pyarrow as pa

    if records is not None:
        taken = records.take(pa.array(positions)).combine_chunks()
        return {name: taken.column(name).chunk(0) for name in taken.schema.names}
    count = len(positions)
    hashes = [hashlib.blake2b(vector.tobytes(), digest_size=16).digest() for vector in block]
    return {
        "id": pa.array([fold.ids[at] for at in positions]),
        "seq": pa.array([row.claim.seq] * count, pa.int64()),
        "attempt": pa.array([row.attempt] * count, pa.int32()),
        # Without its text, a vector is its own content.
        "content_hash": pa.array(hashes, pa.binary(16)),
        "document": pa.nulls(count, pa.string()),
        "metadata": pa.array([""] * count),
    }
