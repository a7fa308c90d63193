"""A batch table in memory. It keeps items, not rows, so that reading it raw shows what DynamoDB would hold.

Every method is one step under one lock; `by_status` is one such step for each page, and its index never lags.
"""

from __future__ import annotations

import copy
import itertools
import threading
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from embedpipe.backends.table_rules import Item, Range, changed, in_order, index_ranges, item_bytes, item_key, row_of
from embedpipe.errors import InvalidInput
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import row_to_item

if TYPE_CHECKING:
    from embedpipe.ports import BatchTable

__all__ = ["MemoryBatchTable"]

PAGE_ROWS: Final = 1_000
UNCHANGING: Final = frozenset({str, int, float, bool, type(None)})


class MemoryBatchTable:
    """Items in a dict, by partition and sort key. `item_bytes_max`: how large one may be, as DynamoDB's; None: any size."""

    def __init__(self, layout: Layout = SEED, *, item_bytes_max: int | None = None) -> None:
        self._layout = layout
        self._item_bytes_max = item_bytes_max
        self._items: dict[tuple[str, str], Item] = {}
        self._rows: dict[tuple[str, str], BatchRow | None] = {}  # of those items that were read
        self._index: dict[str, list[tuple[str, str, str]]] = {}  # partition -> sort key and item key, sorted
        self._lock = threading.RLock()

    def put_new(self, row: BatchRow) -> bool:
        """Insert where no row is."""
        item = row_to_item(row, self._layout)
        self._check_size(row.batch_id, item)  # as DynamoDB does: a request is looked at before its condition
        with self._lock:
            if item_key(row.batch_id, self._layout) in self._items:
                return False
            self.write_raw(item)
            return True

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """Those that exist."""
        with self._lock:
            rows = {batch_id: self._row(batch_id) for batch_id in batch_ids}
        return {batch_id: row for batch_id, row in rows.items() if row is not None}

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        """Ids of one type and status."""
        ranges = index_ranges(batch_type, status, after, self._layout)
        return in_order([self._ids(wanted, after) for wanted in ranges])

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        """Change a row that still has `status` and `revision`."""
        with self._lock:
            before = self._items.get(item_key(batch_id, self._layout))
            after = changed(batch_id, before, changes, self._layout, status=status, revision=revision)
            self._check_size(batch_id, after)
            self.write_raw(after)
            row = self._row(batch_id)
        assert row is not None  # `changed` refuses what is no row
        return row

    def read_raw(self, batch_id: str) -> Item | None:
        """A copy of the item under a batch's key, around the port."""
        with self._lock:
            found = self._items.get(item_key(batch_id, self._layout))
            return None if found is None else _copied(found)

    def write_raw(self, item: Mapping[str, object]) -> None:
        """Put an item of any type around the port, as another program would. It has the two key attributes."""
        kept = _copied(item)
        key = (str(kept[self._layout.pk]), str(kept[self._layout.sk]))
        with self._lock:
            before = self._items.get(key)
            if before is not None:
                partition, entry = self._index_entry(before)
                self._index[partition].remove(entry)
            self._items[key] = kept
            self._rows.pop(key, None)
            partition, entry = self._index_entry(kept)
            insort(self._index.setdefault(partition, []), entry)

    def delete_raw(self, batch_id: str) -> None:
        """Remove the item under a batch's key around the port, which never does; quiet where none is."""
        with self._lock:
            key = item_key(batch_id, self._layout)
            before = self._items.pop(key, None)
            self._rows.pop(key, None)
            if before is not None:
                partition, entry = self._index_entry(before)
                self._index[partition].remove(entry)

    def _row(self, batch_id: str) -> BatchRow | None:
        """The row under a batch's key, parsed once."""
        key = item_key(batch_id, self._layout)
        if key not in self._rows:
            self._rows[key] = row_of(self._items.get(key), self._layout)
        return self._rows[key]

    def _check_size(self, batch_id: str, item: Item) -> None:
        most = self._item_bytes_max
        if most is not None and item_bytes(item) > most:
            raise InvalidInput(
                f"The row of batch {batch_id} has {item_bytes(item)} bytes.",
                hint=f"An item holds at most {most} bytes; nothing was written.",
                batch_id=batch_id,
            )

    def _index_entry(self, item: Item) -> tuple[str, tuple[str, str, str]]:
        layout = self._layout
        names = (layout.index_pk, layout.index_sk, layout.pk, layout.sk)
        partition, *entry = (str(item.get(name, "")) for name in names)
        return partition, (entry[0], entry[1], entry[2])

    def _ids(self, wanted: Range, after: str) -> Iterator[str]:
        while page := self._page(wanted, after):
            yield from page
            after = page[-1]

    def _page(self, wanted: Range, after: str) -> Sequence[str]:
        with self._lock:
            entries = self._index.get(wanted.partition, [])
            start, end = bisect_left(entries, (wanted.prefix + after,)), bisect_left(entries, (wanted.high,))
            found = (wanted.batch_id(entries[index][0]) for index in range(start, end))
            newer = (batch_id for batch_id in found if batch_id is not None and batch_id > after)
            return list(itertools.islice(newer, PAGE_ROWS))


def _copied(item: Mapping[str, object]) -> Item:
    """An item that shares nothing that can change: `deepcopy` of all of it would take ten times as long."""
    return {name: value if type(value) in UNCHANGING else copy.deepcopy(value) for name, value in item.items()}


if TYPE_CHECKING:
    _: type[BatchTable] = MemoryBatchTable
