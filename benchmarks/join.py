"""Joining a catalog with a delta, beside reading and writing the same Arrow files.

python -m benchmarks.join
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measure import Figure, ratio
from embedpipe.stages.merge import Counts, join
from embedpipe.stages.streams import rebatched
from embedpipe.steps.merge import CATALOG_BATCH_ROWS
from embedpipe.vectors import arrow_writer, catalog_schema, open_arrow, vectors_schema, write_arrow

DIMENSIONS = 256
DELTA_BATCH_ROWS = 4_096


def catalog_table(rows: int) -> pa.Table:
    """Every second id of a range, claimed by submission 2."""
    ids = [f"article-{2 * at:08d}" for at in range(rows)]
    hashes = [hashlib.blake2b(name.encode(), digest_size=16).digest() for name in ids]
    columns = [ids, np.full(rows, 2), np.ones(rows, np.int32), hashes]
    fields = zip(columns, catalog_schema(), strict=True)
    return pa.table([pa.array(column, field.type) for column, field in fields], schema=catalog_schema())


def delta_table(catalog: pa.Table, rows: int) -> pa.Table:
    """A quarter each of new, replaced, equal and superseded rows, spread over the whole catalog."""
    at = np.linspace(0, catalog.num_rows - 1, rows).astype(np.int64)
    verdict = np.arange(rows) % 4
    taken = catalog.take(pa.array(at))
    ids = [
        name + "+" if kind == 0 else name for name, kind in zip(taken.column("id").to_pylist(), verdict, strict=True)
    ]
    hashes = [
        value if kind == 2 else hashlib.blake2b(value, digest_size=16).digest()
        for value, kind in zip(taken.column("content_hash").to_pylist(), verdict, strict=True)
    ]
    vectors = np.random.default_rng(0).standard_normal((rows, DIMENSIONS), np.float32)
    columns = {
        "id": pa.array(ids),
        "seq": pa.array(np.where(verdict == 3, 1, 3)),
        "attempt": pa.array(np.ones(rows, np.int32)),
        "content_hash": pa.array(hashes, pa.binary(16)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIMENSIONS),
        "document": pa.array([f"The text of {name}, about as long as a line is." for name in ids]),
        "metadata": pa.array([""] * rows),
    }
    return pa.table(list(columns.values()), schema=vectors_schema(DIMENSIONS))


def run(rows: int = 1_000_000, delta_rows: int = 50_000, rounds: int = 15) -> list[Figure]:
    """How many times the CPU of copying both files the join takes that writes the new catalog."""
    catalog = catalog_table(rows)
    delta = delta_table(catalog, delta_rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, rows_path = folder / "catalog.arrow", folder / "delta.arrow"
        write_arrow(old, catalog_schema(), catalog.to_batches(CATALOG_BATCH_ROWS))
        write_arrow(rows_path, delta.schema, delta.to_batches(DELTA_BATCH_ROWS))

        def copied() -> None:
            for path, schema in ((old, catalog_schema()), (rows_path, delta.schema)):
                with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
                    batches = (file.get_batch(at) for at in range(file.num_record_batches))
                    with pa.OSFile(str(folder / "copy"), "wb") as sink, pa.ipc.new_file(sink, schema) as target:
                        for batch in batches:
                            target.write_batch(batch)

        def joined() -> Counts:
            return join_files(old, rows_path, folder / "new.arrow", folder / "upserts.arrow")

        found = joined()
        quarter = delta_rows // 4
        assert (found.inserted, found.replaced, found.equal, found.superseded) == (quarter,) * 4, found
        value = ratio(joined, copied, rounds=rounds)
    return [Figure(f"catalog merge-join of {rows:,} with {delta_rows:,} rows, over copying both files", value, 3)]


def join_files(catalog: Path, delta: Path, target: Path, upserts: Path) -> Counts:
    """What a merge does apart from the vector store: the new catalog, and the rows to upsert, each into a file."""
    counts = Counts()
    schema = vectors_schema(DIMENSIONS)
    with (
        open_arrow(catalog, catalog_schema()) as old,
        open_arrow(delta, schema) as new,
        arrow_writer(target, catalog_schema()) as catalog_file,
        arrow_writer(upserts, schema) as upserts_file,
    ):

        def windows() -> Iterator[pa.RecordBatch]:
            nonlocal counts
            for window in join(old.batches(), new.batches(), catalog_schema=catalog_schema(), rows_schema=schema):
                counts += window.counts
                for batch in window.upserts.to_batches() if window.upserts is not None else ():
                    upserts_file.write(batch)
                yield from window.catalog.to_batches()

        for batch in rebatched(windows(), CATALOG_BATCH_ROWS):
            catalog_file.write(batch)
    return counts


if __name__ == "__main__":
    for figure in run():
        print(figure)
