"""Float32 rows in a temporary file: what comes in any order leaves in the order of ids, and is never all in memory.

The rule kept here: memory is one block of rows, whatever the count. Rows are read and not mapped, because mapped pages
count as the process's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from embedpipe.errors import CorruptData, InvalidInput, full_disk, missing_extra

try:
    import numpy as np
except ImportError as error:
    raise missing_extra("vectors", error.name or "numpy") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WRITE_BUFFER_BYTES: Final = 1 << 20
_ITEM_BYTES: Final = 4


class Scratch:
    """Append-only rows of one length in a file of its own at `path`, which `close` removes. For one thread."""

    def __init__(self, path: Path, dimensions: int | None) -> None:
        """`dimensions`: length of a row; None: that of the first one."""
        self._path = path
        self._file = path.open("w+b", buffering=_WRITE_BUFFER_BYTES)
        self.dimensions = dimensions
        self.count = 0

    def append(self, vector: NDArray[np.float32]) -> int:
        """Add one row, shape (dimensions,), and return its ordinal, from 0. `StorageFull`."""
        if self.dimensions is None and vector.ndim == 1 and vector.size:
            self.dimensions = vector.size
        if vector.shape != (self.dimensions,):
            raise InvalidInput(f"A vector of shape {vector.shape} does not fit rows of {self.dimensions}.")
        with full_disk(str(self._path)):
            self._file.write(np.ascontiguousarray(vector, dtype="<f4").data)
        self.count += 1
        return self.count - 1

    def batches(self, order: NDArray[np.int64], rows_per_batch: int = 2048) -> Iterator[NDArray[np.float32]]:
        """The rows that `order` names by ordinal, in blocks of shape (at most rows_per_batch, dimensions).

        Each block is the caller's own. `StorageFull` where what was appended can't be written out.
        """
        if len(order) == 0:
            return
        if order.min() < 0 or order.max() >= self.count or self.dimensions is None:
            raise InvalidInput(f"An ordinal is outside the {self.count} rows.")
        with full_disk(str(self._path)):
            self._file.flush()
        for start in range(0, len(order), rows_per_batch):
            yield self._gather(order[start : start + rows_per_batch], self.dimensions)

    def _gather(self, ordinals: NDArray[np.int64], dimensions: int) -> NDArray[np.float32]:
        block = np.empty((len(ordinals), dimensions), dtype="<f4")
        target = block.data.cast("B")
        row_bytes = dimensions * _ITEM_BYTES
        # One read for each run of neighbours: providers often answer nearly in order.
        edges = [0, *(np.flatnonzero(np.diff(ordinals) != 1) + 1).tolist(), len(ordinals)]
        for first, end in pairwise(edges):
            self._read_into(target[first * row_bytes : end * row_bytes], int(ordinals[first]) * row_bytes)
        return block

    def _read_into(self, target: memoryview, offset: int) -> None:
        while target:
            size_bytes = os.preadv(self._file.fileno(), [target], offset)
            if size_bytes == 0:
                raise CorruptData(f"{self._path} is shorter than what was written to it.", path=str(self._path))
            target, offset = target[size_bytes:], offset + size_bytes

    def close(self) -> None:
        """Release and remove the file; quiet when called twice."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):  # rows that find no space now: nobody wants them any more
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
