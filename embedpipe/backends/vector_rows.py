"""What every vector store checks before it writes, so that each refuses the same rows with the same words.

The rule: a bad call is refused before its first effect. Knows no store; needs numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedpipe.errors import CollectionMismatch, InvalidInput, missing_extra
from embedpipe.ports import VectorRows

if TYPE_CHECKING:
    from embedpipe.ports import Vectors


def checked_vectors(rows: VectorRows, dimensions: int) -> Vectors:
    """The vectors as a float32 array of shape (n, dimensions).

    `InvalidInput` where columns differ in length, an id comes twice or a number is not finite; `CollectionMismatch` where
    the vectors have another length than the collection's.
    """
    np = _numpy()
    count = len(rows.ids)
    vectors: Vectors = np.ascontiguousarray(rows.vectors, dtype=np.float32)
    if not count == len(vectors) == len(rows.documents) == len(rows.metadatas):
        raise InvalidInput(
            f"{count} ids, {len(vectors)} vectors, {len(rows.documents)} documents and {len(rows.metadatas)} metadatas.",
            hint="Give all columns one length.",
        )
    if len(set(rows.ids)) != count:
        raise InvalidInput(f"{count - len(set(rows.ids))} ids come twice in one call.", hint="Make them distinct.")
    if count and vectors.shape[1:] != (dimensions,):
        raise CollectionMismatch(
            f"Vectors of shape {vectors.shape} do not fit a collection of {dimensions} dimensions.",
            dimensions=dimensions,
        )
    if not np.isfinite(vectors).all():
        at = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InvalidInput(f"The vector of {ascii(rows.ids[at])[:80]} has a number that is not finite.")
    return vectors


def checked_query(vector: Vectors, dimensions: int) -> Vectors:
    """The query as float32 of shape (dimensions,). `CollectionMismatch`, `InvalidInput`."""
    np = _numpy()
    query: Vectors = np.asarray(vector, dtype=np.float32)
    if query.shape != (dimensions,):
        raise CollectionMismatch(
            f"A query of shape {query.shape} does not fit a collection of {dimensions} dimensions.",
            dimensions=dimensions,
        )
    if not np.isfinite(query).all():
        raise InvalidInput("The query has a number that is not finite.")
    return query


def cosine_distances(vectors: Any, query: Vectors) -> list[float]:
    """Of each row of shape (n, dimensions), 0 to 2. A vector of length 0 is at right angles to everything."""
    np = _numpy()
    matrix = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
    distances: list[float] = (
        1.0 - np.divide(matrix @ query, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    ).tolist()
    return distances


def mismatch(name: str, found: object, wanted: int) -> CollectionMismatch:
    """The refusal to open a collection that was made with other dimensions."""
    return CollectionMismatch(
        f"Collection {name} holds vectors of {found} dimensions, and {wanted} are wanted.",
        hint="Use the model it was made with, or another collection.",
        collection=name,
    )


def empty_rows(dimensions: int) -> VectorRows:
    """No rows."""
    np = _numpy()
    return VectorRows(ids=(), vectors=np.empty((0, dimensions), np.float32), documents=(), metadatas=())


def slices(count: int, size: int) -> Sequence[slice]:
    """Consecutive slices of at most `size` that cover `count`.

    >>> slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        raise missing_extra("vectors", "numpy") from None
    return np
