"""S504 and V: does the collection hold what the catalog names, and is each vector the one that its delta has?

Both sides are streams sorted by id; what a vector should be is known by its signature. Nothing is written, and a collection
that is being merged into is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedpipe.errors import CorruptData
from embedpipe.ports import Collection
from verify.audit.checks import found
from verify.audit.claims import Fate, matrix
from verify.audit.findings import IDS_SHOWN_MAX, Finding
from verify.audit.signatures import differ, of_matrix

__all__ = ["Comparison", "id_batches"]

IDS_AT_ONCE: Final = 8_192
SAMPLES_MAX: Final = 8
"""[ours] Vectors that the index is asked for, in one collection."""
NEAREST: Final = 50
SAME_DISTANCE: Final = 1e-3


def id_batches(ids: Iterable[str]) -> Iterator[Any]:
    """Ids of a collection as sorted record batches."""
    iterator = iter(ids)
    while block := list(islice(iterator, IDS_AT_ONCE)):
        yield pa.record_batch([pa.array(block, pa.string())], names=["id"])


@attrs.define
class _Ids:
    """Ids in one state: how many, the first few, and evidence of the first."""

    count: int = 0
    ids: list[str] = attrs.field(factory=list)
    values: dict[str, object] = attrs.field(factory=dict)

    def add(self, ids: Iterable[str], **values: object) -> None:
        """Some more."""
        for record_id in ids:
            self.count += 1
            if len(self.ids) < IDS_SHOWN_MAX:
                self.ids.append(record_id)
            self.values = self.values or values


@attrs.define(kw_only=True)
class Comparison:
    """Folds windows of catalog, claims and collection into findings of one collection."""

    collection: Collection
    location: str
    dimensions: int
    every_vector: bool
    in_catalog: int = 0
    in_collection: int = 0
    _wrong: dict[str, _Ids] = attrs.field(factory=dict)
    _samples: int = 0

    def take(self, catalog: Any, claims: Any, ids: Any) -> None:
        """One window."""
        self.in_catalog += catalog.num_rows
        self.in_collection += len(ids)
        named = _one(catalog.column("id"))
        absent = named.filter(pc.invert(pc.is_in(named, value_set=ids)))
        extra = ids.filter(pc.invert(pc.is_in(ids, value_set=named)))
        if not self.every_vector:
            self._add("S504", "only_in_catalog", absent)
            self._add("S504", "only_in_collection", extra)
            return
        self._add("V601", "catalog", absent)
        vectors = claims.filter(pc.equal(claims.column("fate"), int(Fate.VECTOR)))
        explained = pc.is_in(extra, value_set=_one(vectors.column("id")))
        self._add("S504", "only_in_collection", extra.filter(explained))
        self._add("V604", "collection", extra.filter(pc.invert(explained)))
        for start in range(0, len(ids), 1_000):
            both = ids.slice(start, 1_000)
            self._compare(both.filter(pc.is_in(both, value_set=named)), catalog, vectors)

    def _add(self, code: str, side: str, ids: Any) -> None:
        if len(ids):
            self._wrong.setdefault(f"{code} {side}", _Ids()).add(ids.to_pylist())

    def _compare(self, ids: Any, catalog: Any, claims: Any) -> None:
        """V602 and V603 for ids that both sides have."""
        if not len(ids):
            return
        wanted = ids.to_pylist()
        try:
            rows = self.collection.get(wanted)
        except CorruptData as error:
            self._wrong.setdefault("V602 unreadable", _Ids()).add(wanted, message=error.message)
            return
        gone = set(wanted) - set(rows.ids)
        if gone:
            self._wrong.setdefault("V602 unreadable", _Ids()).add(sorted(gone), listed=len(wanted), read=len(rows.ids))
        if not rows.ids:
            return
        vectors = np.asarray(rows.vectors, np.float32)
        if vectors.shape[1] != self.dimensions:
            sizes = {"dimensions": vectors.shape[1], "expected_dimensions": self.dimensions}
            self._wrong.setdefault("V603 dimensions", _Ids()).add(rows.ids, **sizes)
            return
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(vectors, axis=1)
        bad = ~np.isfinite(lengths) | (lengths == 0)
        other = ~bad & _other(pa.array(rows.ids, pa.string()), vectors, catalog, claims)
        for name, which in (("not_a_direction", bad), ("other_vector", other)):
            for at in np.flatnonzero(which):
                values = {"vector_begins": [float(value) for value in vectors[at][:4]], "length": float(lengths[at])}
                self._wrong.setdefault(f"V603 {name}", _Ids()).add([rows.ids[int(at)]], **values)
        if self._samples < SAMPLES_MAX and not bad[0]:
            self._ask(rows.ids[0], vectors[0])

    def _ask(self, record_id: str, vector: Any) -> None:
        """V602: whether the index finds a vector that the store has."""
        self._samples += 1
        try:
            with np.errstate(all="ignore"):  # beside it may lie rows that are no numbers
                hits = self.collection.search(vector, NEAREST)
        except CorruptData as error:
            self._wrong.setdefault("V602 index", _Ids()).add([record_id], message=error.message)
            return
        nearest = min((hit.distance for hit in hits), default=2.0)
        if record_id not in {hit.id for hit in hits} and nearest > SAME_DISTANCE:
            self._wrong.setdefault("V602 index", _Ids()).add([record_id], nearest_distance=nearest, hits=len(hits))

    def findings(self) -> Iterator[Finding]:
        """What came of it. Both directions of a disagreement are one finding."""
        by_code: dict[str, dict[str, _Ids]] = {}
        for name, ids in self._wrong.items():
            code, _, side = name.partition(" ")
            by_code.setdefault(code, {})[side] = ids
        count = self.collection.count()
        if self.every_vector and count != self.in_collection and "V602" not in by_code:
            by_code["V602"] = {"count": _Ids(values={"count": count, "listed": self.in_collection})}
        for code, sides in sorted(by_code.items()):
            evidence: dict[str, object] = {"catalog": self.in_catalog, "collection": self.in_collection}
            for side, ids in sides.items():
                evidence[side] = {"count": ids.count, "ids": ids.ids, **ids.values}
            yield found(code, self.location, **evidence)


def _other(ids: Any, vectors: Any, catalog: Any, claims: Any) -> Any:
    """Which vectors are none of those that deltas have for the content that the catalog holds.

    A claim with the same content moves the claim only, so the vector may be an older delta's. Where no delta says, nothing
    is wrong.
    """
    near = claims.filter(pc.is_in(claims.column("id"), value_set=ids))
    near = near.filter(pc.is_valid(near.column("signature")))
    held = _one(catalog.take(pc.index_in(ids, value_set=_one(catalog.column("id")))).column("content_hash"))
    at = _one(pc.index_in(near.column("id"), value_set=ids))
    same = np.asarray(pc.equal(_one(near.column("content_hash")), held.take(at)))
    where = np.asarray(at)[same]
    fits = ~differ(matrix(near.column("signature"))[same], of_matrix(vectors)[where], vectors[where])
    known, right = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    known[where] = True
    np.logical_or.at(right, where, fits)
    return known & ~right


def _one(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
