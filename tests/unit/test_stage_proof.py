"""The proof, against a dictionary: a record is there under its claim or a greater one, or it is lacking."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.stages.proof import NEEDED_SCHEMA, unproven
from embedpipe.vectors import catalog_schema

IDS = ["a", "b", "c", "é", "\uffff", "\U0001f600"]
CLAIM = st.tuples(st.integers(1, 3), st.integers(1, 3))
BATCHES = 4


def catalog_batch(rows: list[tuple[str, tuple[int, int]]]) -> pa.RecordBatch:
    columns = [[name for name, _ in rows], [claim[0] for _, claim in rows], [claim[1] for _, claim in rows]]
    columns.append([bytes(16)] * len(rows))
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, catalog_schema(), strict=True)],
        schema=catalog_schema(),
    )


def needed_batch(rows: list[tuple[str, int, int, int]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, NEEDED_SCHEMA, strict=True)],
        schema=NEEDED_SCHEMA,
    )


@given(
    st.dictionaries(st.sampled_from(IDS), CLAIM),
    st.lists(st.tuples(st.sampled_from(IDS), CLAIM, st.integers(0, BATCHES - 1)), max_size=14),
    st.lists(st.integers(0, 14), max_size=4),
    st.lists(st.integers(0, 6), max_size=3),
)
def test_each_batch_lacks_what_the_catalog_does_not_hold(
    held: dict[str, tuple[int, int]],
    wanted: list[tuple[str, tuple[int, int], int]],
    needed_cuts: list[int],
    held_cuts: list[int],
) -> None:
    expected = [0] * BATCHES
    for name, claim, batch in wanted:
        expected[batch] += not held.get(name, (0, 0)) >= claim
    needed = sorted(((name, *claim, batch) for name, claim, batch in wanted), key=lambda row: row[0].encode())
    catalog = sorted(held.items(), key=lambda pair: pair[0].encode())
    found = unproven(
        [catalog_batch(catalog[start:end]) for start, end in pairwise([0, *clip(held_cuts, catalog), len(catalog)])],
        [needed_batch(needed[start:end]) for start, end in pairwise([0, *clip(needed_cuts, needed), len(needed)])],
        batches=BATCHES,
        catalog_schema=catalog_schema(),
    )
    assert found == expected


def clip(cuts: list[int], rows: list[object]) -> list[int]:
    return sorted(min(cut, len(rows)) for cut in cuts)


def test_without_a_catalog_nothing_is_proven() -> None:
    needed = [needed_batch([("a", 1, 1, 0), ("b", 1, 1, 2)])]
    assert unproven((), needed, batches=3, catalog_schema=catalog_schema()) == [1, 0, 1]


def test_nothing_needed_is_nothing_lacking() -> None:
    assert unproven((), (), batches=2, catalog_schema=catalog_schema()) == [0, 0]
    assert unproven([catalog_batch([("a", (1, 1))])], [], batches=1, catalog_schema=catalog_schema()) == [0]
