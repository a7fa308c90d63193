"""Merging into Chroma, with journal, join, reading back and publishing, beside a bare `collection.upsert`.

python -m benchmarks.merge
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measure import Figure, cpu_s
from embedpipe import Kind, Pipeline
from embedpipe.backends.chroma_client import client
from embedpipe.limits import CHROMA_BATCH_MAX
from embedpipe.steps.chunk import PACKED_BATCH_ROWS
from embedpipe.steps.context import Context
from embedpipe.steps.merge import final_merge
from embedpipe.vectors import sha256_file, vector_column, vector_matrix, vectors_schema, write_arrow
from embedpipe.wire import Chunk, DeltaRef, Packed, dump_many

DIMENSIONS = 256


def packed_rows(count: int, seq: int) -> pa.Table:
    """Sorted rows as a chunk packs them, with distinct unit vectors; the content does not depend on `seq`."""
    ids = [f"article-{at:08d}" for at in range(count)]
    vectors = np.random.default_rng(0).standard_normal((count, DIMENSIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = [
        pa.array(ids),
        pa.array(np.full(count, seq)),
        pa.array(np.ones(count, np.int32)),
        pa.array([hashlib.blake2b(name.encode(), digest_size=16).digest() for name in ids], pa.binary(16)),
        vector_column(vectors),
        pa.array([f"The text of {name}, about as long as a line is." for name in ids]),
        pa.array([""] * count),
    ]
    return pa.table(columns, schema=vectors_schema(DIMENSIONS))


def merged_cpu_s(ctx: Context, rows: pa.Table, folder: Path, execution_id: str) -> tuple[float, int]:
    """CPU seconds of the final merge of one packed chunk, and how many rows it wrote."""
    path = folder / f"{execution_id}.arrow"
    write_arrow(path, rows.schema, rows.to_batches(PACKED_BATCH_ROWS))
    ref = DeltaRef(batch_id="batch", delta_key="delta/", embedding_count=rows.num_rows)
    chunk = Chunk(index=0, chunk_id="chunk", execution_id=execution_id, deltas=(ref,))
    ctx.objects.upload(ctx.layout.intermediate_key(execution_id, chunk.chunk_id), path)
    packed = Packed(index=0, chunk_id=chunk.chunk_id, rows=rows.num_rows, sha256=sha256_file(path))
    ctx.objects.put(ctx.layout.packed_key(execution_id, chunk.chunk_id), packed.dump())
    ctx.objects.put(ctx.layout.chunks_key(execution_id), dump_many([chunk]))
    written = 0

    def merge() -> None:
        nonlocal written
        done = final_merge(ctx, execution_id=execution_id, poll_results_s3_key="poll_results.json")
        written = done.inserted + done.replaced

    return cpu_s(merge), written


def upserted_cpu_s(collection: object, rows: pa.Table) -> float:
    """CPU seconds of bare upserts, as many rows at once as Chroma takes."""
    ids, documents = rows.column("id").to_pylist(), rows.column("document").to_pylist()
    vectors = vector_matrix(rows.column("vector"))

    def upsert() -> None:
        for start in range(0, len(ids), CHROMA_BATCH_MAX):
            part = slice(start, start + CHROMA_BATCH_MAX)
            collection.upsert(ids=ids[part], embeddings=vectors[part], documents=documents[part])  # type: ignore[attr-defined]

    return cpu_s(upsert)


def one_round(count: int, again: int) -> tuple[float, float]:
    """(merging new rows over upserting them, upserting some of them again over merging those as equal)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = packed_rows(count, seq=1)
        with client(folder / "bare") as opened:
            configuration = {"hnsw": {"space": "cosine"}}
            collection = opened.create_collection("bare", embedding_function=None, configuration=configuration)
            first_s = upserted_cpu_s(collection, rows)
            again_s = upserted_cpu_s(collection, rows.slice(0, again).combine_chunks())
        with Pipeline.open(folder / "root", kind=Kind("bench")) as pipe:
            new_s, written = merged_cpu_s(pipe.context, rows, folder, "first")
            assert written == count
            equal_s, written = merged_cpu_s(pipe.context, packed_rows(count, seq=2).slice(0, again), folder, "second")
            assert written == 0
    return new_s / first_s, again_s / equal_s


def run(rows: int = 20_000, rounds: int = 5) -> list[Figure]:
    """Both ratios, the median of some rounds. Chroma is so slow at replacing rows that a tenth of them has to do."""
    again = rows // 10
    turns = zip(*(one_round(rows, again) for _ in range(rounds)), strict=True)
    new, equal = (statistics.median(values) for values in turns)
    return [
        Figure(f"merge {rows:,} new rows of {DIMENSIONS}, over a bare upsert", new, 1.15),
        Figure(f"upsert {again:,} of them again, over merging them as equal", equal, 30, at_least=True),
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
