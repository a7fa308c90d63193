"""Chunk, decided: how the deltas of one execution are grouped, oldest claim first.

Grouping depends on the results alone, so a repeated delivery gives the same chunks under the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable

from embedpipe.lifecycle import TERMINAL_ACTIONS
from embedpipe.wire import Chunk, Chunked, ChunkItem, DeltaRef, Result

DELTAS_PER_CHUNK_MAX = 500
"""[ours] Bounds the open files of one iteration."""


def deltas(results: Iterable[Result]) -> list[DeltaRef]:
    """The deltas with vectors, in the order of the results, each once."""
    found: dict[str, DeltaRef] = {}
    for result in results:
        if result.action in TERMINAL_ACTIONS and result.delta_key and result.embedding_count > 0:
            found.setdefault(
                result.delta_key,
                DeltaRef(
                    batch_id=result.batch_id,
                    delta_key=result.delta_key,
                    embedding_count=result.embedding_count,
                    delta_sha256=result.delta_sha256,
                ),
            )
    return list(found.values())


def chunks(refs: Iterable[DeltaRef], *, execution_id: str, chunk_rows: int) -> tuple[Chunk, ...]:
    """Group neighbours up to `chunk_rows` vectors; a larger delta is a chunk of its own.

    >>> refs = [DeltaRef(batch_id=str(i), delta_key=str(i), embedding_count=4) for i in range(5)]
    >>> [[d.batch_id for d in c.deltas] for c in chunks(refs, execution_id="e", chunk_rows=8)]
    [['0', '1'], ['2', '3'], ['4']]
    """
    groups: list[list[DeltaRef]] = []
    rows = 0
    for ref in refs:
        if not groups or rows + ref.embedding_count > chunk_rows or len(groups[-1]) >= DELTAS_PER_CHUNK_MAX:
            groups.append([])
            rows = 0
        groups[-1].append(ref)
        rows += ref.embedding_count
    return tuple(
        Chunk(index=index, chunk_id=f"{index:06d}", execution_id=execution_id, deltas=tuple(group))
        for index, group in enumerate(groups)
    )


def chunked(
    planned: tuple[Chunk, ...], *, execution_id: str, inline_max: int, key: str, bucket: str, results: tuple[str, str]
) -> Chunked:
    """What the workflow carries: small items inline up to `inline_max`; `results` is key and bucket of poll_results.json."""
    inline = len(planned) <= inline_max
    items = tuple(ChunkItem(index=chunk.index, chunk_id=chunk.chunk_id, execution_id=execution_id) for chunk in planned)
    return Chunked(
        execution_id=execution_id,
        total_chunks=len(planned),
        chunks=items if inline else None,
        use_s3=not inline,
        chunks_s3_key=key,
        chunks_s3_bucket=bucket,
        poll_results_s3_key=results[0],
        poll_results_s3_bucket=results[1],
    )
