"""Sorting more records than fit in memory: sorted runs in temporary files, joined again as streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from embedpipe.errors import missing_extra
from embedpipe.model import EmbeddingModel, Record, content_hasher, metadata_json
from embedpipe.stages.streams import Stream
from embedpipe.stages.submit import DRAFT_SCHEMA
from embedpipe.vectors import open_arrow, write_arrow

try:
    import pyarrow as pa
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

RUN_RECORDS = 25_000
"""[ours] Records sorted in memory at once."""
RUN_TEXT_BYTES = 32 * 1024 * 1024
"""[ours] Or this much text, whichever comes first."""
BATCH_ROWS = 2_048
"""[ours] Rows of each run that are in memory while runs are joined."""


def _runs(records: Iterable[Record]) -> Iterator[list[Record]]:
    source = iter(records)
    while run := list(islice(source, 1)):
        size_bytes = len(run[0].text)
        for record in islice(source, RUN_RECORDS - 1):
            run.append(record)
            size_bytes += len(record.text)
            if size_bytes > RUN_TEXT_BYTES:
                break
        yield run


def draft_table(records: list[Record], model: EmbeddingModel) -> pa.Table:
    """Records as drafts, sorted by id."""
    hash_content = content_hasher(model.name, model.dimensions)
    metadata = [metadata_json(record.metadata) for record in records]
    hashes = [hash_content(record.text.encode(), data.encode()) for record, data in zip(records, metadata, strict=True)]
    rows = pa.table(
        [
            pa.array([record.id for record in records], pa.string()),
            pa.array(hashes, pa.binary(16)),
            pa.array([record.text for record in records], pa.string()),
            pa.array(metadata, pa.string()),
            pa.array([record.source for record in records], pa.string()),
        ],
        schema=DRAFT_SCHEMA,
    )
    return rows.sort_by("id")


@contextmanager
def sorted_drafts(records: Iterable[Record], model: EmbeddingModel, folder: Path) -> Iterator[list[Path]]:
    """Read all records once, into sorted run files in `folder`."""
    paths = []
    for number, run in enumerate(_runs(records)):
        path = folder / f"run-{number:06d}.arrow"
        write_arrow(path, DRAFT_SCHEMA, draft_table(run, model).to_batches(max_chunksize=BATCH_ROWS))
        paths.append(path)
    yield paths


@contextmanager
def streams(paths: Iterable[Path]) -> Iterator[list[Stream]]:
    """Sorted files as streams of batches."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_arrow(path)).batches() for path in paths]
