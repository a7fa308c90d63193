"""Chunks: every delta with vectors in exactly one, in order, and none too large."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.lifecycle import TERMINAL_ACTIONS, Action
from embedpipe.limits import STATE_BYTES_MAX
from embedpipe.stages.chunk import DELTAS_PER_CHUNK_MAX, chunked, chunks, deltas
from embedpipe.wire import Chunk, Chunked, DeltaRef, Result

RESULTS = st.lists(
    st.builds(
        Result,
        batch_id=st.sampled_from(["b1", "b2", "b3"]),
        action=st.sampled_from(Action),
        delta_key=st.sampled_from([None, "", "d/1/", "d/2/", "d/3/"]),
        embedding_count=st.integers(0, 3),
        delta_sha256=st.sampled_from([None, "x"]),
    ),
    max_size=8,
)


@given(RESULTS)
def test_the_deltas_are_those_with_vectors_each_once(results: list[Result]) -> None:
    wanted = [
        result
        for result in results
        if result.action in TERMINAL_ACTIONS and result.delta_key and result.embedding_count
    ]
    found = deltas(results)
    assert [ref.delta_key for ref in found] == list(dict.fromkeys(result.delta_key for result in wanted))
    for ref in found:
        first = next(result for result in wanted if result.delta_key == ref.delta_key)
        assert (ref.batch_id, ref.embedding_count, ref.delta_sha256) == (
            first.batch_id,
            first.embedding_count,
            first.delta_sha256,
        )


def refs(sizes: list[int]) -> list[DeltaRef]:
    return [DeltaRef(batch_id=f"b{at}", delta_key=f"d/{at}/", embedding_count=size) for at, size in enumerate(sizes)]


@given(st.lists(st.integers(0, 12), max_size=20), st.integers(1, 10))
def test_every_delta_is_in_one_chunk_and_no_chunk_is_too_large(sizes: list[int], chunk_rows: int) -> None:
    planned = chunks(refs(sizes), execution_id="e", chunk_rows=chunk_rows)
    assert [ref for chunk in planned for ref in chunk.deltas] == refs(sizes)
    assert [chunk.index for chunk in planned] == list(range(len(planned)))
    assert len({chunk.chunk_id for chunk in planned}) == len(planned)
    for chunk in planned:
        rows = sum(ref.embedding_count for ref in chunk.deltas)
        assert rows <= chunk_rows or len(chunk.deltas) == 1
    # No chunk could have taken its neighbour's first delta, too.
    for chunk, following in pairwise(planned):
        rows = sum(ref.embedding_count for ref in chunk.deltas)
        assert rows + following.deltas[0].embedding_count > chunk_rows
    assert chunks(refs(sizes), execution_id="e", chunk_rows=chunk_rows) == planned


def test_a_chunk_has_a_bounded_number_of_deltas() -> None:
    planned = chunks(refs([0] * (2 * DELTAS_PER_CHUNK_MAX + 1)), execution_id="e", chunk_rows=10)
    assert [len(chunk.deltas) for chunk in planned] == [DELTAS_PER_CHUNK_MAX, DELTAS_PER_CHUNK_MAX, 1]


def test_names_of_chunks_are_in_order() -> None:
    names = [chunk.chunk_id for chunk in chunks(refs([1] * 1_200), execution_id="e", chunk_rows=1)]
    assert names == sorted(names)


@pytest.mark.parametrize("count", [0, 1, 50, 51, 2_000])
def test_the_workflow_carries_few_chunks_or_a_key(count: int) -> None:
    planned = chunks(refs([1] * count), execution_id="e", chunk_rows=1)
    found = chunked(
        planned, execution_id="e", inline_max=50, key="chunks/e/chunks.json", bucket="b", results=("r", "b2")
    )
    assert (found.total_chunks, found.use_s3) == (count, count > 50)
    assert (found.chunks_s3_key, found.chunks_s3_bucket) == ("chunks/e/chunks.json", "b")
    assert (found.poll_results_s3_key, found.poll_results_s3_bucket) == ("r", "b2")
    assert Chunked.load(found.dump(), "chunked") == found
    assert len(found.dump()) < STATE_BYTES_MAX / 20
    if count <= 50:
        assert found.chunks is not None
        assert [(item.index, item.chunk_id, item.execution_id) for item in found.chunks] == [
            (chunk.index, chunk.chunk_id, "e") for chunk in planned
        ]
    else:
        assert found.chunks is None


def test_a_chunk_survives_its_writing() -> None:
    (planned,) = chunks(refs([1, 2]), execution_id="e", chunk_rows=10)
    assert Chunk.load(planned.dump(), "chunk") == planned
