"""What the tables that live here do alike with items: which are rows, how a change is applied, where the index looks.

The rule: an item that is not a row is never read as one and never changed. Knows no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby
from typing import Final

import attrs

from embedpipe.errors import PreconditionFailed
from embedpipe.layout import Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import changes_to_item, item_to_row

__all__ = ["Item", "Range", "changed", "in_order", "index_ranges", "item_bytes", "item_key", "row_of"]

Item = dict[str, object]
KEY_END: Final = "\U0010ffff"
"""Greater than any character of an id."""


def item_key(batch_id: str, layout: Layout) -> tuple[str, str]:
    """The two parts of a row's key."""
    return layout.pk_value.format(batch_id=batch_id), layout.sk_value


def item_bytes(value: object) -> int:
    """The size of an item, or of one value in it, in about the way that DynamoDB counts: names and values in UTF-8.

    >>> item_bytes({"pk": "é", "n": 1_000, "tags": ["a", None, True]})
    21
    """
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    if isinstance(value, Mapping):
        return sum(len(str(name).encode()) + item_bytes(each) for name, each in value.items())
    if isinstance(value, list | tuple | frozenset | set):
        return 3 + sum(1 + item_bytes(each) for each in value)
    if isinstance(value, bytes):
        return len(value)
    if value is None or isinstance(value, bool):
        return 1
    return len(str(value)) // 2 + 1


def row_of(item: Mapping[str, object] | None, layout: Layout) -> BatchRow | None:
    """The row of an item; None where there is none, or where the item is of another type."""
    if item is None or item.get(layout.type_attribute) != layout.type_value:
        return None
    return item_to_row(item, layout)


def changed(
    batch_id: str, item: Item | None, changes: Mapping[str, object], layout: Layout, *, status: Status, revision: int
) -> Item:
    """The item after a conditional update. Attributes that are not named stay. `PreconditionFailed`."""
    row = row_of(item, layout)
    if item is None or row is None:
        raise PreconditionFailed(f"There is no row for batch {batch_id}.", batch_id=batch_id)
    if (row.status, row.revision) != (status, revision):
        raise PreconditionFailed(
            f"Row of batch {batch_id} is {row.status} at revision {row.revision}, not {status} at {revision}.",
            batch_id=batch_id,
        )
    sets, removes = changes_to_item(changes, row, layout)
    kept = {name: value for name, value in item.items() if name not in removes}
    return {**kept, **sets, layout.attributes.get("revision", "revision"): revision + 1}


@attrs.frozen(kw_only=True)
class Range:
    """Where the rows of one type and status are in the index: `low < sort key < high`."""

    partition: str
    low: str
    high: str
    prefix: str
    suffix: str

    def batch_id(self, sort_key: str) -> str | None:
        """The id that a sort key names; None where it belongs to something else."""
        if not (sort_key.startswith(self.prefix) and sort_key.endswith(self.suffix)):
            return None
        return sort_key[len(self.prefix) : len(sort_key) - len(self.suffix)] or None

    def batch_ids(self, sort_keys: Iterable[str], after: str) -> list[str]:
        """The ids greater than `after` that sort keys name. A comprehension, since an index has very many."""
        prefix, suffix = self.prefix, self.suffix
        start, behind = len(prefix), len(suffix)
        found = [key[start : len(key) - behind] for key in sort_keys if key.startswith(prefix) and key.endswith(suffix)]
        return [batch_id for batch_id in found if batch_id > after]


def index_ranges(batch_type: str, status: Status, after: str, layout: Layout) -> tuple[Range, ...]:
    """The ranges of `by_status`: one, or several where others write words of their own for that status.

    >>> [found.low for found in index_ranges("WORD_EMBEDDING", Status.PENDING, "b1", Layout())]
    ['BATCH_TYPE#WORD_EMBEDDING#BATCH_ID#b1']
    """
    before, _, behind = layout.index_sk_value.partition("{batch_id}")
    prefix = before.format(batch_type=batch_type)
    suffix = behind.format(batch_type=batch_type)
    return tuple(
        Range(
            partition=layout.index_pk_value.format(status=word),
            low=prefix + after,
            high=prefix + KEY_END,
            prefix=prefix,
            suffix=suffix,
        )
        for word in layout.status_words(status)
    )


def in_order(streams: Sequence[Iterator[str]]) -> Iterator[str]:
    """Ascending streams of ids as one, each id once: a row may move from one range to another while they are read.

    >>> list(in_order([iter("ace"), iter("bc")]))
    ['a', 'b', 'c', 'e']
    """
    return streams[0] if len(streams) == 1 else (name for name, _ in groupby(merge(*streams)))
