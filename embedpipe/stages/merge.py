"""Merge, decided: the merge-join of catalog and sorted deltas, and the versions that come of it.

For each id one verdict: insert, replace, equal (only the claim moves) or superseded. The greater claim wins whatever the order
of arrival. Columns in, columns out: no Python object is made for a row that nothing happens to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from embedpipe.errors import missing_extra
from embedpipe.limits import ANCESTORS_KEPT
from embedpipe.stages.streams import Stream, one_array, table, windows
from embedpipe.wire import Latest, Snapshot

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

CLAIM_COLUMNS = ("seq", "attempt", "content_hash")
CATALOG_COLUMNS = ("id", *CLAIM_COLUMNS)


@attrs.frozen(kw_only=True)
class Counts:
    """How many ids took each verdict."""

    inserted: int = 0
    replaced: int = 0
    equal: int = 0
    superseded: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            inserted=self.inserted + other.inserted,
            replaced=self.replaced + other.replaced,
            equal=self.equal + other.equal,
            superseded=self.superseded + other.superseded,
        )

    @property
    def changed(self) -> bool:
        """Whether the catalog differs from before."""
        return bool(self.inserted or self.replaced or self.equal)


@attrs.frozen(kw_only=True, eq=False)
class Joined:
    """One window of the join."""

    catalog: pa.Table
    """The new catalog's rows of this range of ids, sorted."""
    upserts: pa.Table | None
    """Rows to write to the collection: inserted, replaced, and equal ones that are not trusted."""
    counts: Counts


def join(
    catalog: Stream,
    rows: Stream,
    *,
    catalog_schema: Any,
    rows_schema: Any,
    distrusted: Any = None,
    distrust_all: bool = False,
) -> Iterator[Joined]:
    """Merge-join the sorted catalog with sorted, distinct rows.

    `distrusted`: an Arrow array of ids that a dead writer may have written; what is equal there is written again.
    `distrust_all`: nobody knows which ids those are; all that is equal is.
    """
    for old_parts, new_parts in windows([catalog, rows]):
        old = table(old_parts, catalog_schema)
        if not new_parts:
            yield Joined(catalog=old, upserts=None, counts=Counts())
            continue
        yield _join_window(old, table(new_parts, rows_schema), distrusted, distrust_all)


def _join_window(old: pa.Table, new: pa.Table, distrusted: Any, distrust_all: bool) -> Joined:
    new_keys = new.select(CATALOG_COLUMNS)
    old_ids, new_ids = (one_array(side.column("id")) for side in (old, new))
    at = count_below(old_ids, new_ids)
    matched = _stands_at(old_ids, at, new_ids)
    was = old.select(CLAIM_COLUMNS).take(pa.array(at[matched]))
    now = new.select(CLAIM_COLUMNS).filter(pa.array(matched))
    newer, equal_claim = _compare_claims(now, was)
    same = np.asarray(pc.equal(one_array(now.column("content_hash")), one_array(was.column("content_hash"))))

    inserted = ~matched
    wins, written, settled = inserted.copy(), inserted.copy(), inserted.copy()
    wins[matched] = newer
    written[matched] = newer & ~same
    settled[matched] = newer | equal_claim
    if distrust_all:
        written |= settled
    elif distrusted is not None:
        written |= settled & np.asarray(pc.is_in(new_ids, value_set=distrusted))
    counts = Counts(
        inserted=int(inserted.sum()),
        replaced=int((newer & ~same).sum()),
        equal=int((newer & same).sum()),
        superseded=int((~newer & ~equal_claim).sum()),
    )
    return Joined(
        catalog=_overlaid(old, new_keys, at, inserted=inserted, replacing=wins & matched),
        upserts=new.filter(pa.array(written)) if written.any() else None,
        counts=counts,
    )


def count_below(ids: pa.Array, wanted: pa.Array) -> Any:
    """For each wanted id, how many of the sorted ids are smaller: int64. One binary search for all of them at once.

    >>> count_below(pa.array(["b", "d"]), pa.array(["a", "b", "c", "z"])).tolist()
    [0, 0, 1, 2]
    """
    low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), len(ids), np.int64)
    while (searching := low < high).any():
        middle = (low + high) // 2
        facing = ids.take(pa.array(np.minimum(middle, len(ids) - 1)))
        below = searching & np.asarray(pc.less(facing, wanted))
        low = np.where(below, middle + 1, low)
        high = np.where(below, high, middle)
    return low


def _stands_at(ids: pa.Array, at: Any, wanted: pa.Array) -> Any:
    """Whether each wanted id is the one at its place in `ids`."""
    if not len(ids):
        return np.zeros(len(wanted), bool)
    facing = ids.take(pa.array(np.minimum(at, len(ids) - 1)))
    return (at < len(ids)) & np.asarray(pc.equal(facing, wanted))


def _overlaid(old: pa.Table, new: pa.Table, at: Any, *, inserted: Any, replacing: Any) -> pa.Table:
    """The old rows, new ones before or in place of the old row at `at`: no sort, and each row is copied once."""
    if not (inserted.any() or replacing.any()):
        return old
    order = np.arange(old.num_rows)
    order[at[replacing]] = old.num_rows + np.flatnonzero(replacing)
    order = np.insert(order, at[inserted], old.num_rows + np.flatnonzero(inserted))
    return pa.concat_tables([old, new.cast(old.schema)]).take(pa.array(order))


def _compare_claims(now: pa.Table, was: pa.Table) -> tuple[Any, Any]:
    seq, old_seq = (np.asarray(side.column("seq")) for side in (now, was))
    attempt, old_attempt = (np.asarray(side.column("attempt")) for side in (now, was))
    newer = (seq > old_seq) | ((seq == old_seq) & (attempt > old_attempt))
    return newer, (seq == old_seq) & (attempt == old_attempt)


# --- versions ------------------------------------------------------------------------------------------------------


def version_name(n: int, attempt_id: str) -> str:
    """A version of one attempt only: never shared, so a loser can't overwrite a winner's files.

    >>> version_name(6, "0b9d1c2e-1111-4222-8333-444455556666")
    '6-0b9d1c2e11114222'
    """
    return f"{n}-{attempt_id.replace('-', '')[:16]}"


def ancestors_of(base: Snapshot | None) -> tuple[str, ...]:
    """The ancestors of the version that comes after `base`, nearest first, as many as are kept."""
    return (base.version, *base.ancestors)[:ANCESTORS_KEPT] if base else ()


def won(version: str, latest: Latest | None, published: Snapshot | None) -> bool:
    """Whether our version is published after all: the pointer names it, or a later version that was built on it.

    A pointer's write may succeed and its answer be lost, and others may have gone on from there.
    """
    if latest is None or published is None:
        return False
    return latest.version == version or version in published.ancestors
