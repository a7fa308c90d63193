"""The listing: all open batches of one collection, oldest claim first, inline while it is short."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.errors import CorruptData
from embedpipe.lifecycle import Status
from embedpipe.limits import INLINE_BATCHES_MAX, STATE_BYTES_MAX
from embedpipe.model import WORD, BatchRow
from embedpipe.stages.list_pending import check_manifest, listing, manifest, pending
from embedpipe.wire import Listing, Manifest

ROWS = st.builds(
    BatchRow,
    batch_id=st.sampled_from([f"b{number}" for number in range(9)]),
    batch_type=st.sampled_from(["WORD_EMBEDDING", "WORD_EMBEDDING", "LINE_EMBEDDING"]),
    status=st.sampled_from(Status),
    seq=st.none() | st.integers(1, 3),
    attempt=st.integers(1, 3),
    collection=st.sampled_from([None, "receipt_words", "other"]),
    database=st.sampled_from([None, "words", "other"]),
)


@given(st.lists(ROWS, max_size=12, unique_by=lambda row: row.batch_id), st.data())
def test_every_open_batch_of_the_collection_is_listed_once(rows: list[BatchRow], data: st.DataObject) -> None:
    """Trace T11: another collection's batches are never among them."""
    given_ = data.draw(st.permutations(rows + rows))
    found = pending(given_, WORD)
    assert {row.batch_id for row in found} == {
        row.batch_id for row in rows if row.status in (Status.PENDING, Status.CREATING) and row.serves(WORD)
    }
    assert len({row.batch_id for row in found}) == len(found)
    assert list(found) == sorted(found, key=lambda row: (row.seq or 0, row.attempt, row.batch_id))


def stored(count: int) -> Manifest:
    rows = [
        BatchRow(
            batch_id=f"0b9d1c2e-1111-4222-8333-{number:012}",
            batch_type="WORD_EMBEDDING",
            status=Status.PENDING,
            provider_batch_id=f"batch_67b4f2c8a1d48190b1a2c3d4e5{number:06}" if number else None,
        )
        for number in range(count)
    ]
    return manifest(rows, WORD, execution_id="e", created_at="2026-01-01T00:00:00Z")


@pytest.mark.parametrize("count", [0, 1, 50, 51, 3_000])
def test_no_id_is_lost_inline_or_by_manifest(count: int) -> None:
    """Guarantee G1, and G8: a long listing is small."""
    kept = stored(count)
    assert [batch.openai_batch_id is None for batch in kept.batches] == [number == 0 for number in range(count)]
    assert (kept.total_batches, [batch.index for batch in kept.batches]) == (count, list(range(count)))
    assert kept.batch_type == "WORD_EMBEDDING"
    found = listing(kept, inline_max=INLINE_BATCHES_MAX, key="k", bucket="b")
    assert (found.total_batches, found.use_s3, found.execution_id) == (count, count > 50, "e")
    assert (found.manifest_s3_key, found.manifest_s3_bucket) == ("k", "b")
    assert Listing.load(found.dump(), "listing") == found
    assert len(found.dump()) < STATE_BYTES_MAX / 20
    if count > 50:
        assert (found.pending_batches, found.batch_indices) == (None, ())
        return
    assert found.pending_batches is not None
    assert found.batch_indices == tuple(range(count))
    assert [(batch.batch_id, batch.openai_batch_id) for batch in found.pending_batches] == [
        (batch.batch_id, batch.openai_batch_id) for batch in kept.batches
    ]


@pytest.mark.parametrize(("count", "inline"), [(2, True), (3, True), (4, False)])
def test_where_inline_ends_is_a_setting(count: int, inline: bool) -> None:
    found: Any = listing(stored(count), inline_max=3, key="k", bucket="b")
    assert (found.pending_batches is not None) is inline


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"execution_id": "another"}, "is the listing of execution 'another'"),
        ({"total_batches": 3}, "says 3 batches and names 2"),
        ({"total_batches": 0}, "says 0 batches and names 2"),
        ({"batches": [{"index": 0, "batch_id": "a"}, {"index": 1, "batch_id": "a"}]}, "names batch 'a' more than once"),
        ({"batches": [{"index": 0, "batch_id": "a"}, {"index": 1, "batch_id": "../x"}]}, "batch_id '../x' is refused"),
        (
            {"batches": [{"index": 0, "batch_id": "a"}, {"index": 1, "batch_id": "x" * 1_000_000}]},
            "names what is no batch",
        ),
    ],
)
def test_a_manifest_that_does_not_match_is_refused(changed: dict[str, Any], problem: str) -> None:
    batches = [{"index": 0, "batch_id": "a"}, {"index": 1, "batch_id": "b"}]
    whole = {"execution_id": "e", "created_at": "2026-01-01T00:00:00Z", "total_batches": 2, "batches": batches}
    check_manifest(Manifest.load(whole, "m"), execution_id="e", key="m")
    with pytest.raises(CorruptData, match=problem) as caught:
        check_manifest(Manifest.load({**whole, **changed}, "m"), execution_id="e", key="m")
    assert "Start a new execution" in caught.value.hint
