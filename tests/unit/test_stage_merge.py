"""The merge-join against a dictionary, in any order of arrival, also after writers that died half-way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.limits import ANCESTORS_KEPT
from embedpipe.stages.merge import Counts, ancestors_of, join, version_name, won
from embedpipe.stages.streams import merged
from embedpipe.vectors import catalog_schema, vectors_schema
from embedpipe.wire import Latest, Snapshot

IDS = ["a", "b", "c", "d", "é", "\uffff", "\U0001f600"]
CLAIMS = st.tuples(st.integers(1, 3), st.integers(1, 2))
ROWS_SCHEMA = vectors_schema(2)
Entry = tuple[tuple[int, int], int]
"""A claim, and the number of its text."""
Entries = Mapping[str, Entry]
ENTRIES = st.dictionaries(st.sampled_from(IDS), st.tuples(CLAIMS, st.integers(0, 2)))


def catalog_batch(rows: Sequence[tuple[str, Entry]]) -> pa.RecordBatch:
    return _batch(rows, catalog_schema())


def delta_batch(rows: Sequence[tuple[str, Entry]]) -> pa.RecordBatch:
    return _batch(rows, ROWS_SCHEMA)


def _batch(rows: Sequence[tuple[str, Entry]], schema: pa.Schema) -> pa.RecordBatch:
    columns = {
        "id": [name for name, _ in rows],
        "seq": [entry[0][0] for _, entry in rows],
        "attempt": [entry[0][1] for _, entry in rows],
        "content_hash": [bytes([entry[1]]) * 16 for _, entry in rows],
        "vector": [[float(entry[1]), 1.0] for _, entry in rows],
        "document": [f"text {entry[1]}" for _, entry in rows],
        "metadata": ["" for _ in rows],
    }
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def cut(entries: Entries, make: Any, at: Sequence[int]) -> list[pa.RecordBatch]:
    """Sorted, in batches that end at these positions."""
    rows = sorted(entries.items(), key=lambda pair: pair[0].encode())
    edges = [0, *sorted(min(edge, len(rows)) for edge in at), len(rows)]
    return [make(rows[start:end]) for start, end in pairwise(edges)]


def entries_of(tables: Sequence[Any]) -> dict[str, Entry]:
    rows = [row for found in tables if found is not None for row in found.to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: ((row["seq"], row["attempt"]), row["content_hash"][0]) for row in rows}


def model(catalog: Entries, rows: Entries, distrusted: set[str]) -> tuple[dict[str, Entry], dict[str, Entry], Counts]:
    """The same join, one id at a time: the new catalog, what is written, the verdicts."""
    after, written, verdicts = dict(catalog), {}, []
    for name, entry in rows.items():
        old = catalog.get(name)
        if old is None or entry[0] > old[0]:
            verdicts.append("inserted" if old is None else "equal" if entry[1] == old[1] else "replaced")
            after[name] = entry
        elif entry[0] < old[0]:
            verdicts.append("superseded")
            continue
        fresh = old is None or (entry[0] > old[0] and entry[1] != old[1])
        if fresh or name in distrusted:
            written[name] = entry
    names = ("inserted", "replaced", "equal", "superseded")
    return after, written, Counts(**{verdict: verdicts.count(verdict) for verdict in names})


CUTS = st.lists(st.integers(0, 8), max_size=4)


@given(ENTRIES, ENTRIES, CUTS, CUTS, st.none() | st.sets(st.sampled_from(IDS)))
def test_the_join_is_that_of_dictionaries(
    catalog: Entries, rows: Entries, catalog_cuts: list[int], row_cuts: list[int], distrusted: set[str] | None
) -> None:
    windows = list(
        join(
            cut(catalog, catalog_batch, catalog_cuts),
            cut(rows, delta_batch, row_cuts),
            catalog_schema=catalog_schema(),
            rows_schema=ROWS_SCHEMA,
            distrusted=None if distrusted is None else pa.array(sorted(distrusted), pa.string()),
        )
    )
    after, written, counts = model(catalog, rows, distrusted or set())
    assert entries_of([window.catalog for window in windows]) == after
    assert entries_of([window.upserts for window in windows]) == written
    assert sum((window.counts for window in windows), Counts()) == counts
    assert counts.changed == (after != dict(catalog))
    ids = [row["id"] for window in windows for row in window.catalog.to_pylist()]
    assert ids == sorted(ids, key=str.encode)


def test_what_nothing_happens_to_is_passed_on_without_a_copy() -> None:
    batch = catalog_batch([("a", ((1, 1), 0)), ("b", ((1, 1), 0))])
    windows = list(join([batch], [], catalog_schema=catalog_schema(), rows_schema=ROWS_SCHEMA))
    assert [window.upserts for window in windows] == [None] * len(windows)
    address = batch.column("id").buffers()[2].address
    assert {window.catalog.column("id").chunk(0).buffers()[2].address for window in windows} == {address}


# --- merges one after another --------------------------------------------------------------------------------------


class Store:
    """A collection and its published catalog, merged in place."""

    def __init__(self) -> None:
        self.catalog: dict[str, Entry] = {}
        self.collection: dict[str, int] = {}
        self.journal: list[Entries] = []

    def merge(self, deltas: Sequence[Entries], dies_after: int | None = None) -> None:
        """Merge, with the deltas of a dead writer; or die after so many rows, before the catalog."""
        dead, self.journal = self.journal, [*self.journal, *deltas]
        streams = [cut(delta, delta_batch, [1, 3]) for delta in [*deltas, *dead]]
        doubted = sorted({name for delta in dead for name in delta})
        windows = list(
            join(
                cut(self.catalog, catalog_batch, [2]),
                merged(streams, ROWS_SCHEMA),
                catalog_schema=catalog_schema(),
                rows_schema=ROWS_SCHEMA,
                distrusted=pa.array(doubted, pa.string()) if dead else None,
            )
        )
        written = list(entries_of([window.upserts for window in windows]).items())
        self.collection.update({name: entry[1] for name, entry in written[:dies_after]})
        if dies_after is None:
            self.catalog = entries_of([window.catalog for window in windows])
            self.journal = []


@st.composite
def arrivals(draw: st.DrawFn) -> list[Entries]:
    """Deltas in which no claim of a record comes twice, as in the protocol."""
    taken: set[tuple[str, tuple[int, int]]] = set()
    deltas: list[Entries] = []
    for delta in draw(st.lists(ENTRIES, max_size=5)):
        kept = {name: entry for name, entry in delta.items() if (name, entry[0]) not in taken}
        taken |= {(name, entry[0]) for name, entry in kept.items()}
        deltas.append(kept)
    return deltas


def newest(deltas: Sequence[Entries]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for delta in deltas:
        for name, entry in delta.items():
            found[name] = max(found.get(name, ((0, 0), 0)), entry, key=lambda one: one[0])
    return found


@given(arrivals(), st.data())
def test_any_order_and_any_grouping_end_alike(deltas: list[Entries], data: st.DataObject) -> None:
    order = data.draw(st.permutations(deltas))
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=4))), len(order)]
    store = Store()
    for start, end in pairwise(edges):
        store.merge(order[start:end])
    assert store.catalog == newest(deltas)
    assert store.collection == {name: entry[1] for name, entry in store.catalog.items()}


@given(arrivals(), st.data())
def test_merging_again_changes_nothing(deltas: list[Entries], data: st.DataObject) -> None:
    store = Store()
    store.merge(deltas)
    before = (dict(store.catalog), dict(store.collection))
    store.merge(data.draw(st.lists(st.sampled_from(deltas), max_size=3)) if deltas else [])
    assert (store.catalog, store.collection) == before


@given(arrivals(), st.data())
def test_dead_writers_leave_nothing_behind(deltas: list[Entries], data: st.DataObject) -> None:
    """Trace T10: what a dead writer wrote is written over, though the catalog never knew of it."""
    store = Store()
    for delta in data.draw(st.permutations(deltas)):
        store.merge([delta], dies_after=data.draw(st.none() | st.integers(0, 4)))
    store.merge([])
    assert store.catalog == newest(deltas)
    assert store.collection == {name: entry[1] for name, entry in store.catalog.items()}


# --- versions ------------------------------------------------------------------------------------------------------


def snapshot(version: str, ancestors: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(
        version=version,
        n=1,
        ancestors=ancestors,
        database="d",
        collection="c",
        model="m",
        dimensions=2,
        count=0,
        catalog_sha256="",
        in_place=True,
        execution_id="e",
        created_at="",
    )


def test_a_version_belongs_to_one_attempt() -> None:
    first, second = "0b9d1c2e-1111-4222-8333-444455556666", "0b9d1c2e-1111-4223-8333-444455556666"
    assert version_name(6, first) != version_name(6, second)
    assert version_name(6, first) != version_name(7, first)


def test_ancestors_are_the_nearest() -> None:
    assert ancestors_of(None) == ()
    assert ancestors_of(snapshot("2-b", ("1-a",))) == ("2-b", "1-a")
    long = ancestors_of(snapshot("new", tuple(str(number) for number in range(ANCESTORS_KEPT))))
    assert (len(long), long[:2]) == (ANCESTORS_KEPT, ("new", "0"))


@pytest.mark.parametrize(
    ("latest", "published", "expected"),
    [
        ("mine", snapshot("mine"), True),
        ("later", snapshot("later", ("other", "mine")), True),
        ("theirs", snapshot("theirs", ("base",)), False),
        (None, None, False),
        ("theirs", None, False),
    ],
)
def test_the_winner_recognises_itself(latest: str | None, published: Snapshot | None, expected: bool) -> None:
    """Trace T18: the pointer moved and its answer was lost."""
    pointer = Latest(version=latest, n=1, sha256="") if latest else None
    assert won("mine", pointer, published) is expected
