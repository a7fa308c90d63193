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
from embedpipe.stages.streams import Stream, table, windows
from embedpipe.wire import Latest, Snapshot

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

CATALOG_COLUMNS = ("id", "seq", "attempt", "content_hash")


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
    catalog: Stream, rows: Stream, *, catalog_schema: Any, rows_schema: Any, distrusted: Any = None
) -> Iterator[Joined]:
    """Merge-join the sorted catalog with sorted, distinct rows.

    `distrusted`: an Arrow array of ids that a dead writer may have written; what is equal there is written again.
    """
    for old_parts, new_parts in windows([catalog, rows]):
        old = table(old_parts, catalog_schema)
        if not new_parts:
            yield Joined(catalog=old, upserts=None, counts=Counts())
            continue
        yield _join_window(old, table(new_parts, rows_schema), distrusted)


def _join_window(old: pa.Table, new: pa.Table, distrusted: Any) -> Joined:
    new_keys = new.select(CATALOG_COLUMNS)
    at = pc.index_in(old.column("id"), value_set=_array(new_keys.column("id")))
    matched_old = pc.is_valid(at)
    facing = at.combine_chunks().drop_null()  # for each matched old row, its new row
    was = old.filter(matched_old)
    now = new_keys.take(facing)
    newer, equal_claim = _compare_claims(now, was)
    same = np.asarray(pc.equal(_array(now.column("content_hash")), _array(was.column("content_hash"))))
    facing_np = np.asarray(facing, dtype=np.int64)

    inserted = np.ones(new.num_rows, bool)
    inserted[facing_np] = False
    wins = inserted.copy()
    wins[facing_np[newer]] = True
    written = wins.copy()
    written[facing_np[newer & same]] = False
    if distrusted is not None:
        doubted = np.asarray(pc.is_in(_array(new.column("id")), value_set=distrusted))
        settled = inserted.copy()
        settled[facing_np[newer | equal_claim]] = True
        written |= doubted & settled

    stays = np.ones(old.num_rows, bool)
    stays[np.flatnonzero(np.asarray(matched_old))[newer]] = False
    counts = Counts(
        inserted=int(inserted.sum()),
        replaced=int((newer & ~same).sum()),
        equal=int((newer & same).sum()),
        superseded=int((~newer & ~equal_claim).sum()),
    )
    return Joined(
        catalog=_interleave(old.filter(pa.array(stays)), new_keys.filter(pa.array(wins))),
        upserts=new.filter(pa.array(written)) if written.any() else None,
        counts=counts,
    )


def _interleave(old: pa.Table, new: pa.Table) -> pa.Table:
    if not new.num_rows:
        return old
    both = pa.concat_tables([old, new.cast(old.schema)])
    return both.take(pc.sort_indices(both.column("id"))) if old.num_rows else both


def _compare_claims(now: pa.Table, was: pa.Table) -> tuple[Any, Any]:
    seq, old_seq = (np.asarray(side.column("seq")) for side in (now, was))
    attempt, old_attempt = (np.asarray(side.column("attempt")) for side in (now, was))
    newer = (seq > old_seq) | ((seq == old_seq) & (attempt > old_attempt))
    return newer, (seq == old_seq) & (attempt == old_attempt)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


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
