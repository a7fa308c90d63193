"""What object stores, tables and vector stores do beyond their contract suites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedpipe.errors import InvalidInput, NotFound, PreconditionFailed
from embedpipe.layout import SEED
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.ports import BatchTable, BlobStore, VectorRows, VectorStore
from tests.simulation.conformance.cases import MEMORY, case

WORDS = "WORD_EMBEDDING"


def row(batch_id: str, **fields: object) -> BatchRow:
    return BatchRow(**{"batch_id": batch_id, "batch_type": WORDS, "status": Status.PENDING, **fields})  # type: ignore[arg-type]  # by name


@case("objects", "What is deleted may be created again, once; its old etag opens nothing until the bytes are the same.")
def deleted_and_created_again(objects: BlobStore) -> None:
    first = objects.put("a/b", b"one", if_none_match=True)
    objects.delete("a/b")
    with pytest.raises(PreconditionFailed):
        objects.put("a/b", b"two", if_match=first)
    second = objects.put("a/b", b"two", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        objects.put("a/b", b"three", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        objects.put("a/b", b"three", if_match=first)
    objects.put("a/b", b"one", if_match=second)
    assert objects.put("a/b", b"three", if_match=first) != first


@case("objects", "A refused condition leaves what was there, and an upload obeys the same conditions as a put.")
def refused_conditions_write_nothing(objects: BlobStore, folder: Path) -> None:
    (folder / "new").write_bytes(b"new")
    objects.put("a", b"old")
    with pytest.raises(PreconditionFailed):
        objects.upload("a", folder / "new", if_none_match=True)
    assert objects.get("a").data == b"old"
    objects.upload("b", folder / "new", if_none_match=True)
    assert [(info.key, info.size_bytes) for info in objects.list("")] == [("a", 3), ("b", 3)]


@case("table", "A new row of more than 400 KB is refused, and nothing is stored.", but=(MEMORY,))
def a_large_row_is_refused(table: BatchTable) -> None:
    with pytest.raises(InvalidInput, match="at most 409600 bytes"):
        table.put_new(row("b1", reason="x" * 410_000))
    assert table.get_many(["b1"]) == {}
    assert list(table.by_status(WORDS, Status.PENDING)) == []


@case(
    "table", "A change that would make a row larger than 400 KB is refused, and the row stays as it is.", but=(MEMORY,)
)
def a_row_that_grows_too_large_is_refused(table: BatchTable) -> None:
    table.put_new(row("b1", reason="x" * 300_000))
    with pytest.raises(InvalidInput, match="at most 409600 bytes"):
        table.update("b1", {"retry_batch_ids": ("y" * 110_000,)}, status=Status.PENDING, revision=0)
    assert table.get_many(["b1"]) == {"b1": row("b1", reason="x" * 300_000)}


@case("vectors", "What a merge has not sealed is in no published version; where it merges in place, it shows at once.")
def a_draft_does_not_show(vectors: VectorStore) -> None:
    def rows(name: str) -> VectorRows:
        return VectorRows(ids=[name], vectors=np.ones((1, 8), np.float32), documents=[name], metadatas=[{}])

    with vectors.editing("words", "receipt_words", version=None, dimensions=8) as edition:
        edition.collection.upsert(rows("a"))
        edition.seal(SEED.snapshot_prefix("words", "1-test"))
    with vectors.editing("words", "receipt_words", version="1-test", dimensions=8) as edition:
        edition.collection.upsert(rows("b"))
        with vectors.reading("words", "receipt_words", version="1-test") as published:
            assert list(published.ids()) == (["a", "b"] if edition.in_place else ["a"])
    with pytest.raises(NotFound), vectors.reading("words", "another", version="1-test") as published:
        published.count()
