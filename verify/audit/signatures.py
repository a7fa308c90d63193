"""A vector in four numbers: its products with four fixed directions, so that ten million can be compared in bounded memory.

Two vectors that differ have different signatures, up to chance (one in many millions); two that differ by rounding have
signatures that differ by rounding. So "is it the one that was computed" needs no vector to be kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from embedpipe.errors import CorruptData, missing_extra

try:
    import numpy as np
    import pyarrow as pa
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

DIRECTIONS: Final = 4
SIGNATURE: Final = pa.list_(pa.float32(), DIRECTIONS)
TOLERANCE: Final = 1e-3
"""[ours] Of a vector's length: what float32 sums of 4,096 numbers may differ by, and 16 bit rounding of a store."""


@lru_cache(maxsize=8)
def _directions(dimensions: int) -> Any:
    """Shape (dimensions, DIRECTIONS): unit directions, the same in every process."""
    made = np.random.default_rng(20_240_607).standard_normal((DIRECTIONS, dimensions)).T
    return np.ascontiguousarray(made / np.linalg.norm(made, axis=0), dtype=np.float32)


def of_matrix(vectors: Any) -> Any:
    """Shape (n, dimensions) -> (n, DIRECTIONS), float32."""
    with np.errstate(all="ignore"):  # what is no number stays none, and is told as such
        return np.asarray(vectors, np.float32) @ _directions(vectors.shape[1])


def signatures(column: Any, dimensions: int) -> Any:
    """A column of vectors as a column of signatures. `CorruptData` where their length is another."""
    size = getattr(column.type, "list_size", None)
    if size != dimensions:
        raise CorruptData(f"vectors of length {size}, not {dimensions}")
    found = of_matrix(np.asarray(column.flatten()).reshape(len(column), dimensions))
    return pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), DIRECTIONS)


def differ(expected: Any, found: Any, vectors: Any) -> Any:
    """Which rows of `found` are not those of `expected`: bool, shape (n,). `vectors`: those that `found` sums up."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return ~(np.abs(expected - found) <= TOLERANCE * np.maximum(lengths, 1e-6)).all(axis=1)
