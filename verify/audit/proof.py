"""R, and B701 by record: is each submitted record in the published catalog, superseded, rejected, or in an open batch?

Columns in, columns out; Python looks only at rows that something is wrong with. Independent of the pipeline's own proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from verify.audit.checks import found
from verify.audit.claims import Ended, Fate
from verify.audit.findings import IDS_SHOWN_MAX, Finding

__all__ = ["Gaps", "look"]

PROMISED: Final = (Fate.VECTOR, Fate.UNKNOWN, Fate.NOWHERE)
"""Fates of a record that only the catalog can account for."""


@attrs.define
class Gap:
    """What is wrong with some records of one batch, in one way."""

    count: int = 0
    ids: list[str] = attrs.field(factory=list)
    values: dict[str, object] = attrs.field(factory=dict)
    others: set[int] = attrs.field(factory=set)

    def add(self, record_id: str, **values: object) -> None:
        """One more record; the evidence is that of the first."""
        self.count += 1
        if len(self.ids) < IDS_SHOWN_MAX:
            self.ids.append(record_id)
        self.values = self.values or values


@attrs.define
class Gaps:
    """What is wrong, by code and number of the batch."""

    found: dict[tuple[str, int], Gap] = attrs.field(factory=dict)
    unretried: frozenset[int] = frozenset()
    """Batches whose retry has no row: what is to be retried there is said once, of the batch."""

    def of(self, code: str, batch: int) -> Gap:
        """The place to count in."""
        return self.found.setdefault((code, batch), Gap())

    def findings(self, batches: list[str], *, version: str | None, catalog_key: str) -> Iterator[Finding]:
        """As findings of their batches."""
        for (code, number), gap in sorted(self.found.items()):
            names = [batches[number], *sorted(batches[other] for other in gap.others)]
            location = f"table:{names[0]}" if code == "B701" else f"records:{names[0]}"
            evidence = {"row_status": "COMPLETED", "gap": "catalog"} if code == "B701" else {}
            yield found(
                code,
                location,
                *names,
                **evidence,
                **gap.values,
                count=gap.count,
                ids=gap.ids,
                version=version,
                catalog=catalog_key,
            )


def look(catalog: Any, claims: Any, gaps: Gaps) -> None:
    """One window: `catalog` (columns of keys) and `claims` (CLAIMS_SCHEMA), both of one range of ids, sorted by id."""
    if not claims.num_rows:
        return
    order = pc.sort_indices(claims, sort_keys=[("id", "ascending"), ("seq", "ascending"), ("attempt", "ascending")])
    claims = claims.take(order).combine_chunks()
    seq, attempt, fate, ended = (_numbers(claims, name) for name in ("seq", "attempt", "fate", "ended"))
    at = pc.index_in(claims.column("id"), value_set=_one(catalog.column("id")))
    present = np.asarray(pc.is_valid(at))
    held_seq, held_attempt = _held(catalog, at, present)
    proven = present & ((held_seq > seq) | ((held_seq == seq) & (held_attempt >= attempt)))
    promised = np.isin(fate, PROMISED) & (ended != Ended.OPEN) & ~proven
    retried = (fate == Fate.RETRY) & (ended != Ended.OPEN) & ~proven
    for row in _greatest(claims, np.flatnonzero(promised)):
        _unproven(claims, row, bool(present[row]), (int(held_seq[row]), int(held_attempt[row])), gaps)
    if retried.any():
        _retries(claims, np.flatnonzero(retried), gaps)
    _doubles(claims, seq, attempt, ended, gaps)


def _greatest(claims: Any, rows: Any) -> list[int]:
    """Of several unproven claims of one id only the greatest: where it is merged, the others are superseded."""
    ids = claims.column("id").take(pa.array(rows, pa.int64())).to_pylist()
    return list(dict(zip(ids, map(int, rows), strict=True)).values())


def _unproven(claims: Any, row: int, present: bool, held: tuple[int, int], gaps: Gaps) -> None:
    record_id, own, batch, fate, ended = _row(claims, row)
    catalog = list(held) if present else "absent"
    if present and fate == Fate.VECTOR:
        gaps.of("R103", batch).add(record_id, claim=list(own), catalog_claim=catalog)
    elif fate == Fate.NOWHERE or (fate == Fate.VECTOR and ended != Ended.COMPLETED):
        gaps.of("R101", batch).add(record_id, claim=list(own), catalog_claim=catalog, delta=Fate(fate).name.lower())
    if ended == Ended.COMPLETED:
        gaps.of("B701", batch).add(record_id, claim=list(own), catalog_claim=catalog)


def _retries(claims: Any, rows: Any, gaps: Gaps) -> None:
    """A record that its delta left to retry has to be claimed again, under the next attempt."""
    ids = claims.take(pa.array(rows)).column("id")
    near = claims.filter(pc.is_in(claims.column("id"), value_set=_one(ids)))
    claimed = set(zip(*(near.column(name).to_pylist() for name in ("id", "seq", "attempt")), strict=True))
    for row in rows:
        record_id, (seq, attempt), batch, _, ended = _row(claims, int(row))
        if (record_id, seq, attempt + 1) in claimed or batch in gaps.unretried:
            continue
        gaps.of("R101", batch).add(record_id, claim=[seq, attempt], retry="no open batch holds it")
        if ended == Ended.COMPLETED:
            gaps.of("B701", batch).add(record_id, claim=[seq, attempt], retry="no open batch holds it")


def _doubles(claims: Any, seq: Any, attempt: Any, ended: Any, gaps: Gaps) -> None:
    """R104: one claim in two open batches."""
    if claims.num_rows < 2:
        return
    ids = _one(claims.column("id"))
    same = np.asarray(pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    same &= (seq[1:] == seq[:-1]) & (attempt[1:] == attempt[:-1])
    same &= (ended[1:] == Ended.OPEN) & (ended[:-1] == Ended.OPEN)
    for row in np.flatnonzero(same):
        record_id, own, one, *_ = _row(claims, int(row))
        other = _row(claims, int(row) + 1)[2]
        if one != other:
            gap = gaps.of("R104", min(one, other))
            gap.add(record_id, claim=list(own))
            gap.others.add(max(one, other))


def _row(claims: Any, row: int) -> tuple[str, tuple[int, int], int, int, int]:
    value = {name: claims.column(name)[row].as_py() for name in ("id", "seq", "attempt", "batch", "fate", "ended")}
    return value["id"], (value["seq"], value["attempt"]), value["batch"], value["fate"], value["ended"]


def _one(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(table: Any, name: str) -> Any:
    return np.asarray(_one(table.column(name)))


def _held(catalog: Any, at: Any, present: Any) -> tuple[Any, Any]:
    """Seq and attempt that the catalog holds for each claim's id; -1 where it holds none."""
    seq, attempt = np.full(len(present), -1, np.int64), np.full(len(present), -1, np.int64)
    if present.any():
        facing = _one(at).drop_null()
        seq[present] = np.asarray(_one(catalog.column("seq").take(facing)))
        attempt[present] = np.asarray(_one(catalog.column("attempt").take(facing)))
    return seq, attempt
