"""Planning by the column gives what planning by the record gives."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

import attrs
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.blocks import BLOCK_RECORDS, RecordBlock, RecordStream, blocks_of
from embedpipe.errors import InvalidId, InvalidInput
from embedpipe.limits import RECORD_ID_BYTES_MAX
from embedpipe.model import EmbeddingModel, Record
from embedpipe.stages.merge import count_below
from embedpipe.stages.streams import WINDOW_BYTES, ascends, sorted_by_id, windows
from embedpipe.stages.submit import DRAFT_SCHEMA, request_bytes, request_lines
from embedpipe.steps.spill import draft_batches

ANY_TEXT = st.text(max_size=8) | st.text('\x00\x1f"\\/\x7f\u00e9\u2028\U0001f600\ud800 \n', max_size=8)
UNICODE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def refused(record_id: str, text: str, metadata: object) -> type[Exception] | None:
    try:
        Record(id=record_id, text=text, metadata=metadata)  # type: ignore[arg-type]  # wrong on purpose
    except (InvalidInput, InvalidId) as error:
        return type(error)
    return None


IDS = ANY_TEXT | st.integers(126, 130).map("x".__mul__) | st.integers(126, 130).map("\U0001f600".__mul__)
ROW = st.tuples(IDS | st.just("x" * (RECORD_ID_BYTES_MAX + 1)), ANY_TEXT, st.sampled_from([{}, {"a": 1}, {"a": None}]))


@given(st.lists(ROW, max_size=4))
def test_a_checked_block_holds_what_records_accept(rows: list[tuple[str, str, dict[str, int]]]) -> None:
    ids, texts, metadatas = ([row[at] for row in rows] for at in range(3))
    block = RecordBlock(ids=ids, texts=texts, metadatas=metadatas, sources=["f"] * len(rows), lines=[1] * len(rows))
    wrong = [error for row in rows if (error := refused(*row))]
    if wrong:
        with pytest.raises(wrong[0]):
            block.checked()
    else:
        assert [(record.id, record.text, record.metadata) for record in block.checked()] == rows


def test_a_block_names_the_place_of_what_it_refuses() -> None:
    block = RecordBlock(ids=["a", "b"], texts=["x", " "], metadatas=[{}, {}], sources=["f", "f"], lines=[7, 9])
    with pytest.raises(InvalidInput, match=r"Record 'b' \(f:9\) has no text"):
        block.checked()


@pytest.mark.parametrize("count", [0, 1, BLOCK_RECORDS, 2 * BLOCK_RECORDS + 1])
def test_records_go_through_blocks_and_come_out_the_same(count: int) -> None:
    records = [Record(id=str(at), text="x", source=f"f:{at}") for at in range(count)]
    blocks = list(blocks_of(iter(records)))
    found = list(RecordStream(iter(blocks)))
    assert [attrs.asdict(record) for record in found] == [attrs.asdict(record) for record in records]
    assert all(len(block) <= BLOCK_RECORDS for block in blocks)


@given(st.lists(st.tuples(UNICODE, UNICODE), max_size=6), st.booleans(), st.integers(0, 3), st.integers(0, 6))
def test_a_request_is_as_long_as_it_is_planned(
    rows: list[tuple[str, str]], send_dimensions: bool, start: int, stop: int
) -> None:
    model = EmbeddingModel(name='m"é', dimensions=3, send_dimensions=send_dimensions)
    records = [Record(id=name, text=text) for name, text in rows if text.strip()]
    table = pa.Table.from_batches(draft_batches(records, model), schema=DRAFT_SCHEMA).slice(start, stop)
    ids, texts = (table.column(name).to_pylist() for name in ("id", "document"))
    assert request_bytes(table, model).tolist() == [len(line) for line in request_lines(ids, texts, model)]


@given(st.sets(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_one_search_for_many_is_many_searches(ids: set[str], wanted: list[str]) -> None:
    ids, wanted = ({text for text in ids if text.isprintable()}, [text for text in wanted if text.isprintable()])
    found = count_below(pa.array(sorted(ids), pa.string()), pa.array(wanted, pa.string()))
    assert found.tolist() == [bisect_left(sorted(ids), text) for text in wanted]


@given(st.lists(st.sets(st.text("abc", max_size=3), min_size=1), max_size=5), st.integers(1, 80))
def test_windows_of_any_length_hold_every_row_and_part_no_id(groups: list[set[str]], size_bytes: int) -> None:
    streams = [[pa.record_batch({"id": pa.array([name])}) for name in sorted(ids)] for ids in groups]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedpipe.stages.streams.WINDOW_BYTES", size_bytes)
        cut = [
            [[name for batch in part for name in batch["id"].to_pylist()] for part in parts]
            for parts in windows(streams)
        ]
    assert [[name for parts in cut for name in parts[at]] for at in range(len(groups))] == [
        sorted(ids) for ids in groups
    ]
    seen = [{name for part in parts for name in part} for parts in cut]
    assert all(max(one) < min(other) for one, other in pairwise(seen))


def test_thousands_of_short_streams_are_few_windows() -> None:
    streams = [[pa.record_batch({"id": [f"{at:04d}", f"{at + 1:04d}"]})] for at in range(3_000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedpipe.stages.streams.WINDOW_BYTES", WINDOW_BYTES)
        assert len(list(windows(streams))) == 1


@given(st.lists(st.text("ab\u00e9\U0001f600", max_size=3)))
def test_what_is_sorted_is_left_alone(ids: list[str]) -> None:
    rows = pa.table({"id": pa.array(ids, pa.string()), "at": pa.array(range(len(ids)), pa.int64())})
    assert ascends(pa.array(ids, pa.string())) == (ids == sorted(set(ids)))
    assert sorted_by_id(rows).column("id").to_pylist() == sorted(ids)
    assert (sorted_by_id(rows) is rows) == ascends(pa.array(ids, pa.string()))
