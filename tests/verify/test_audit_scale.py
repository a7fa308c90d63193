"""Sorting and joining claims in bounded memory gives what sorting all of them at once would give."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedpipe.errors import CorruptData
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from verify.audit.claims import Claims, windows
from verify.audit.deltas import keys_schema
from verify.audit.rows import Batch

IDS = st.lists(st.text(alphabet="ab\uffff\U0001f600", min_size=1, max_size=3), min_size=1, max_size=6, unique=True)


def batch(number: int, ids: list[str]) -> Batch:
    """An open batch with these records."""
    columns = [sorted(ids), [1] * len(ids), [1] * len(ids), [b"x" * 16] * len(ids)]
    keys = pa.table([pa.array(c, f.type) for c, f in zip(columns, keys_schema(), strict=True)], schema=keys_schema())
    row = BatchRow(batch_id=f"b{number}", batch_type="X_EMBEDDING", status=Status.PENDING, seq=1)
    return attrs.evolve(Batch(batch_id=row.batch_id, row=row), records=keys)


@settings(max_examples=60, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=12), st.integers(1, 9), st.integers(2, 4))
def test_claims_leave_sorted_whatever_a_run_holds(drawn: list[list[str]], run_rows: int, runs_max: int) -> None:
    with TemporaryDirectory() as folder:
        claims = Claims(Path(folder), "c", run_rows=run_rows, runs_max=runs_max)
        for number, ids in enumerate(drawn):
            claims.add(batch(number, ids))
        streams = claims.streams()
        assert len(list(Path(folder).iterdir())) == len(streams) + len(claims.obsolete)
        found: list[tuple[str, int]] = []
        parted: set[str] = set()
        for parts in windows(streams, ["claims"] * len(streams), side_by_side=len(streams)):
            rows = [row for part in parts for each in part for row in each.to_pylist()]
            assert not parted & {row["id"] for row in rows}, "equal ids stay together"
            parted |= {row["id"] for row in rows}
            found += sorted((row["id"], row["batch"]) for row in rows)
        assert found == sorted((name, number) for number, ids in enumerate(drawn) for name in ids)


@pytest.mark.parametrize("parts", [[["b", "c"], ["a"]], [["a"], ["c"], ["b"]]])
def test_a_stream_that_is_not_sorted_is_named(parts: list[list[str]]) -> None:
    stream = [pa.record_batch([pa.array(ids)], names=["id"]) for ids in parts]
    with pytest.raises(CorruptData, match="catalog is not sorted"):
        list(windows([stream], ["catalog"], side_by_side=0))
