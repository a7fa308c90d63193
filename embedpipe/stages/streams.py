"""Joining sorted streams of Arrow batches in bounded memory: the one primitive of submit, chunk, merge and mark.

A stream is an iterator of record batches whose `id` column ascends by UTF-8 bytes, over the whole stream. `windows` cuts
several streams at the same ids, so that whatever concerns one id stands in one window. Nothing here reads a file.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from embedpipe.errors import CorruptData, missing_extra

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

Stream = Iterable[pa.RecordBatch]

WINDOW_BYTES = 1 << 20
"""[ours] Read between two cuts, at least. Each cut looks at every stream, and there may be thousands of short ones."""


class _Head:
    """The unread front of one stream: a batch and a position in it."""

    def __init__(self, stream: Stream) -> None:
        self._more = iter(stream)
        self._parts: list[pa.RecordBatch] = []
        self.last: str | None = None
        self.done = False
        self.read()

    def read(self) -> int:
        """Take in one more non-empty batch, if there is one: its bytes."""
        for batch in self._more:
            if batch.num_rows:
                ids = batch.column("id")
                if self.last is not None and ids[0].as_py() < self.last:
                    raise CorruptData(f"A sorted stream goes back at id {ascii(ids[0].as_py())[:80]}.")
                self._parts.append(batch)
                self.last = ids[len(ids) - 1].as_py()
                return int(batch.nbytes)
        self.done = True
        return 0

    def take(self, horizon: str | None) -> list[pa.RecordBatch]:
        """Remove and return the rows with an id below `horizon`; all rows where it is None."""
        if horizon is None:
            taken, self._parts = self._parts, []
            return taken
        taken = []
        while self._parts:
            batch = self._parts[0]
            end = _count_below(batch.column("id"), horizon)
            if end:
                taken.append(batch.slice(0, end))
            if end < batch.num_rows:
                self._parts[0] = batch.slice(end)
                break
            self._parts.pop(0)
        return taken


def _count_below(ids: pa.Array, horizon: str) -> int:
    low, high = 0, len(ids)
    if ids[high - 1].as_py() < horizon:
        return high
    while low < high:
        middle = (low + high) // 2
        if ids[middle].as_py() < horizon:
            low = middle + 1
        else:
            high = middle
    return low


def windows(streams: Sequence[Stream]) -> Iterator[list[list[pa.RecordBatch]]]:
    """Cut all streams at common ids: each window holds, for each stream, its rows of one range of ids.

    Every row comes once, ranges ascend, and equal ids (in one stream or several) are never parted. A window is about as
    long as one batch of each stream, more where one id fills it or batches are short.

    >>> batch = lambda *ids: pa.record_batch({"id": list(ids)})
    >>> [[sum(b.num_rows for b in part) for part in w] for w in windows([[batch("a", "c")], [batch("b"), batch("d")]])]
    [[2, 2]]
    """
    heads = [_Head(stream) for stream in streams]
    unfinished = [(head.last or "", at) for at, head in enumerate(heads) if not head.done]
    heapq.heapify(unfinished)
    while True:
        _read_on(heads, unfinished)
        # Ids below the smallest last id are complete everywhere; the id itself may go on in that stream's next batch.
        horizon = unfinished[0][0] if unfinished else None
        parts = [head.take(horizon) for head in heads]
        if any(parts):
            yield parts
        if horizon is None:
            return


def _read_on(heads: Sequence[_Head], unfinished: list[tuple[str, int]]) -> None:
    """Read the streams that end first, `WINDOW_BYTES` in all: one batch, or some short ones."""
    size_bytes = 0
    while unfinished and size_bytes < WINDOW_BYTES:
        at = unfinished[0][1]
        size_bytes += heads[at].read()
        if heads[at].done:
            heapq.heappop(unfinished)
        else:
            heapq.heapreplace(unfinished, (heads[at].last or "", at))


def table(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """The batches as one table, empty where there are none."""
    return pa.Table.from_batches(batches, schema=schema)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece, a copy only where it has several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def ascends(ids: pa.Array) -> bool:
    """Whether the ids ascend strictly: sorted, and none twice. Many times quicker than sorting them."""
    return len(ids) < 2 or bool(pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py())


def sorted_by_id(rows: pa.Table) -> pa.Table:
    """The rows in the order of their ids; the same table where they are in order."""
    ids = one_array(rows.column("id"))
    return rows if ascends(ids) else rows.take(pc.array_sort_indices(ids))


def greatest_claims(rows: pa.Table) -> pa.Table:
    """Rows sorted by id, for each id only the one of the greatest claim (the first of equal ones)."""
    if ascends(one_array(rows.column("id"))):
        return rows
    order = pc.sort_indices(rows, sort_keys=[("id", "ascending"), ("seq", "descending"), ("attempt", "descending")])
    rows = rows.take(order)
    ids = one_array(rows.column("id"))
    same = np.asarray(pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    if not same.any():
        return rows
    keep = np.concatenate(([True], ~same))
    return rows.filter(pa.array(keep))


def rebatched(batches: Stream, rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about `rows`: windows are small where many streams meet, files should not be."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield _joined(held)
            held, count = [], 0
    if held:
        yield _joined(held)


def bounded(batches: Stream, rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `rows`, without a copy.

    >>> [batch.num_rows for batch in bounded([pa.record_batch({"id": ["a", "b", "c"]})], 2)]
    [2, 1]
    """
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def merged(streams: Sequence[Stream], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """One sorted stream of several, each id once, under its greatest claim."""
    for parts in windows(streams):
        yield from greatest_claims(table([batch for part in parts for batch in part], schema)).to_batches()
