"""Sorting more records than fit in memory: sorted runs in temporary files, joined again as streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from embedpipe.blocks import blocks_of
from embedpipe.errors import missing_extra
from embedpipe.model import CONTENT_HASH_BYTES, EmbeddingModel, Record, content_hasher, metadata_json
from embedpipe.stages.streams import Stream, sorted_by_id
from embedpipe.stages.submit import DRAFT_SCHEMA
from embedpipe.vectors import arrow_source, release_memory, write_arrow

try:
    import numpy as np
    import pyarrow as pa
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

RUN_RECORDS = 50_000
"""[ours] Records sorted in memory at once."""
RUN_BYTES = 16 * 1024 * 1024
"""[ours] Or about this much of them, whichever comes first."""
BATCH_ROWS = 2_048
"""[ours] Rows of each run that are in memory while runs are joined."""
BATCH_BYTES = RUN_BYTES // 64
"""[ours] Or about this much of them, so that joining very many long texts takes little of their size."""


def draft_batches(records: Iterable[Record], model: EmbeddingModel) -> Iterator[pa.RecordBatch]:
    """Records as drafts, unsorted, block by block."""
    hash_contents = content_hasher(model.name, model.dimensions)
    for block in blocks_of(records):
        metadata = list(map(metadata_json, block.metadatas)) if any(block.metadatas) else [""] * len(block)
        hashes = hash_contents(block.texts, metadata)
        columns = [
            pa.array(block.ids, pa.string()),
            pa.array(hashes, pa.binary(CONTENT_HASH_BYTES)),
            *map(_strings, (block.texts, metadata, block.sources)),
            pa.array(np.fromiter(block.lines, np.int64, len(block))),
        ]
        yield pa.record_batch(columns, schema=DRAFT_SCHEMA)


def _strings(values: Sequence[str]) -> pa.Array:
    """The column; quickly where all values are one, as sources and missing metadata are."""
    if len(values) and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], pa.string()), len(values))
    return pa.array(values, pa.string())


def _runs(batches: Stream) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = size_bytes = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size_bytes += batch.nbytes
        if rows >= RUN_RECORDS or size_bytes >= RUN_BYTES:
            yield pa.Table.from_batches(held)
            held, rows, size_bytes = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


@contextmanager
def sorted_drafts(records: Iterable[Record], model: EmbeddingModel, folder: Path) -> Iterator[list[Path]]:
    """Read all records once, into sorted run files in `folder`."""
    paths = []
    for number, run in enumerate(_runs(draft_batches(records, model))):
        path = folder / f"run-{number:06d}.arrow"
        rows = sorted_by_id(run).combine_chunks()
        write_arrow(path, DRAFT_SCHEMA, rows.to_batches(max_chunksize=_batch_rows(rows)))
        paths.append(path)
        size_bytes = rows.nbytes
        del run, rows
        release_memory(size_bytes)  # else the allocator keeps a run's memory while others are joined
    yield paths


def _batch_rows(rows: pa.Table) -> int:
    fitting: int = BATCH_BYTES * rows.num_rows // max(rows.nbytes, 1)
    return max(1, min(BATCH_ROWS, fitting))


@contextmanager
def streams(paths: Iterable[Path]) -> Iterator[list[Stream]]:
    """Sorted files as streams of batches. Read, not mapped: pages of a map would count as memory of this process."""
    with ExitStack() as stack:
        files = [stack.enter_context(pa.OSFile(str(path))) for path in paths]
        yield [_batches(stack.enter_context(pa.ipc.open_file(arrow_source(file)))) for file in files]


def _batches(reader: pa.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    return (reader.get_batch(index) for index in range(reader.num_record_batches))
