"""One block of Arrow rows into a collection: in the form that the port takes, and read back from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from embedpipe.errors import CorruptData
from embedpipe.model import metadata_from_json
from embedpipe.ports import Collection, VectorRows


def to_vector_rows(rows: Any) -> VectorRows:
    """Arrow rows as the vector store takes them."""
    import numpy as np

    rows = rows.combine_chunks()
    column = rows.column("vector")
    vectors = np.concatenate([np.asarray(chunk.flatten()) for chunk in column.chunks]).reshape(rows.num_rows, -1)
    return VectorRows(
        ids=rows.column("id").to_pylist(),
        vectors=vectors,
        documents=rows.column("document").to_pylist(),
        metadatas=[metadata_from_json(text or "") for text in rows.column("metadata").to_pylist()],
    )


def read_back(collection: Collection, block: VectorRows) -> None:
    """Make sure that every row of `block` is in the collection. `CorruptData` names one that is not."""
    found = set(_present(collection, block.ids))
    if len(found) < len(block.ids):
        missing = next(record_id for record_id in block.ids if record_id not in found)
        raise CorruptData(
            f"The vector store accepted {len(block.ids)} rows and does not hold {ascii(missing)[:80]}.",
            hint="Run again; if it happens again, check the store's own log.",
        )


def _present(collection: Collection, ids: Sequence[str]) -> Iterator[str]:
    yield from collection.get(ids).ids
