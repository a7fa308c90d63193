"""Sorted streams, cut at common ids: against plain lists, with tiny batches and ids that go on over their borders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.errors import CorruptData
from embedpipe.stages.streams import greatest_claims, merged, rebatched, sorted_by_id, table, windows

SCHEMA = pa.schema([("id", pa.string()), ("seq", pa.int64()), ("attempt", pa.int32()), ("mark", pa.int64())])
IDS = ["", "a", "aa", "a\x00", "b", "B", "é", "e\u0301", "\uffff", "\U0001f600", "z" * 40]
"""Few, so that they meet; the last two are where the order of UTF-8 and that of UTF-16 differ."""
ROW = st.tuples(st.sampled_from(IDS), st.integers(1, 2), st.integers(1, 2))
Row = tuple[str, int, int, int]


def batch_of(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def rows_of(batches: Any) -> list[Row]:
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


@st.composite
def streams(draw: st.DrawFn) -> list[list[list[Row]]]:
    """Sorted streams as lists of batches of rows, some batches empty; `mark` tells every row from every other."""
    marks = iter(range(1_000))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        rows = sorted(draw(st.lists(ROW, max_size=9)), key=lambda row: row[0].encode())
        marked = [(*row, next(marks)) for row in rows]
        cuts = sorted(draw(st.lists(st.integers(0, len(marked)), max_size=5)))
        found.append([marked[start:end] for start, end in pairwise([0, *cuts, len(marked)])])
    return found


def arrow(drawn: list[list[list[Row]]]) -> list[Iterator[pa.RecordBatch]]:
    return [map(batch_of, batches) for batches in drawn]


@given(streams())
def test_every_row_comes_once_in_order_and_no_id_is_parted(drawn: list[list[list[Row]]]) -> None:
    cut = [[rows_of(part) for part in window] for window in windows(arrow(drawn))]
    for at, batches in enumerate(drawn):
        assert [row for window in cut for row in window[at]] == [row for batch in batches for row in batch]
    seen = [{row[0] for part in window for row in part} for window in cut]
    assert all(seen), "a window of nothing"
    assert all(max(one) < min(other) for one, other in pairwise(seen))


@given(streams())
def test_a_window_is_as_short_as_a_batch_and_an_id_allow(drawn: list[list[list[Row]]]) -> None:
    """Bounded memory: each stream gives at most what it has read, one batch and the rest of an id."""
    longest = max((len(batch) for batches in drawn for batch in batches), default=0)
    ids = [row[0] for batches in drawn for batch in batches for row in batch]
    fullest = max((ids.count(one) for one in set(ids)), default=0)
    for window in windows(arrow(drawn)):
        for part in window:
            assert sum(batch.num_rows for batch in part) <= 2 * longest + fullest


def test_a_stream_is_read_no_further_than_it_must() -> None:
    read: list[str] = []

    def stream(*ids: str) -> Iterator[pa.RecordBatch]:
        for name in ids:
            read.append(name)
            yield batch_of([(name, 1, 1, 0)])

    cut = windows([stream("a", "b", "c", "d"), stream("a1", "x")])
    next(cut)
    assert read == ["a", "a1", "b"]


@given(streams())
def test_merging_keeps_the_greatest_claim_of_each_id(drawn: list[list[list[Row]]]) -> None:
    every = [row for batches in drawn for batch in batches for row in batch]
    every.sort(key=lambda row: row[0].encode())
    groups = (list(group) for _, group in groupby(every, key=lambda row: row[0]))
    expected = [max(group, key=lambda row: row[1:3])[:3] for group in groups]
    found = rows_of(merged(arrow(drawn), SCHEMA))
    assert [row[:3] for row in found] == expected
    assert set(found) <= set(every)


@given(st.lists(ROW, max_size=12))
def test_of_equal_claims_the_first_stays(drawn: list[tuple[str, int, int]]) -> None:
    rows = [(*row, mark) for mark, row in enumerate(sorted(drawn, key=lambda row: row[0].encode()))]
    best: dict[str, Row] = {}
    for row in rows:
        if row[0] not in best or row[1:3] > best[row[0]][1:3]:
            best[row[0]] = row
    assert rows_of([greatest_claims(table([batch_of(rows)], SCHEMA))]) == list(best.values())


@given(st.lists(ROW, max_size=12))
def test_sorting_is_by_utf8_bytes_and_keeps_the_order_of_equal_ids(drawn: list[tuple[str, int, int]]) -> None:
    rows = [(*row, mark) for mark, row in enumerate(drawn)]
    expected = sorted(rows, key=lambda row: row[0].encode())
    assert rows_of([sorted_by_id(table([batch_of(rows)], SCHEMA))]) == expected
    assert rows_of([sorted_by_id(table([batch_of(expected)], SCHEMA))]) == expected


@given(streams(), st.integers(1, 8))
def test_rebatching_changes_no_row_and_makes_decent_batches(drawn: list[list[list[Row]]], size: int) -> None:
    for batches in drawn:
        whole = [row for batch in batches for row in batch]
        made = list(rebatched(map(batch_of, batches), size))
        assert rows_of(made) == whole
        assert all(batch.num_rows >= size for batch in made[:-1])
        longest = max((len(batch) for batch in batches), default=0)
        assert all(batch.num_rows < size + longest for batch in made)


@pytest.mark.parametrize("ids", [["b", "a"], ["a", "c", "b"], ["\U0001f600", "\uffff"]])
def test_a_stream_that_goes_back_is_corrupt(ids: list[str]) -> None:
    batches = [batch_of([(name, 1, 1, 0)]) for name in ids]
    with pytest.raises(CorruptData, match="A sorted stream goes back at id "):
        list(windows([batches]))


def test_nothing_gives_nothing() -> None:
    assert list(windows([])) == []
    assert list(windows([[], [batch_of([])]])) == []
    assert list(merged([], SCHEMA)) == []
    assert table([], SCHEMA).num_rows == 0
