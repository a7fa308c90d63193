"""Arrow files: written whole or not at all, read only when they are what they should be."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedpipe.errors import CorruptData, InvalidInput, NotFound, StorageFull
from embedpipe.vectors import (
    arrow_writer,
    catalog_schema,
    open_arrow,
    records_schema,
    sha256_file,
    vector_column,
    vector_matrix,
    vectors_schema,
    write_arrow,
)

HASH = b"0123456789abcdef"


def catalog(*ids: str) -> pa.RecordBatch:
    count = len(ids)
    columns = {"id": list(ids), "seq": range(count), "attempt": [1] * count, "content_hash": [HASH] * count}
    return pa.RecordBatch.from_pydict(columns, schema=catalog_schema())


def vectors(matrix: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> pa.RecordBatch:
    count = len(matrix)
    base = catalog(*(f"r{row}" for row in range(count)))
    nothing = pa.nulls(count, pa.string())
    columns = [*base.columns, vector_column(matrix), nothing, nothing]
    return pa.RecordBatch.from_arrays(columns, schema=vectors_schema(matrix.shape[1]))


def test_the_schemas_are_the_files_contract() -> None:
    assert str(records_schema().remove_metadata()) == (
        "id: string not null\nseq: int64 not null\nattempt: int32 not null\ntries: int32 not null\n"
        "content_hash: fixed_size_binary[16] not null\ndocument: string not null\nmetadata: string not null"
    )
    assert vectors_schema(5).field("vector").type == pa.list_(pa.float32(), 5)
    assert [field.name for field in vectors_schema(5) if field.nullable] == ["document", "metadata"]
    assert catalog_schema().names == ["id", "seq", "attempt", "content_hash"]


@pytest.mark.parametrize("batches", [[], [catalog()], [catalog("a", "é"), catalog("z")]])
def test_a_file_gives_back_its_rows(tmp_path: Path, batches: list[pa.RecordBatch]) -> None:
    path = tmp_path / "catalog.arrow"
    count = write_arrow(path, catalog_schema(), iter(batches))
    with open_arrow(path, catalog_schema()) as file:
        assert (file.rows, file.schema) == (count, catalog_schema())
        assert list(file.batches()) == batches
        table = file.table()
    assert table == pa.Table.from_batches(batches, schema=catalog_schema())  # valid after the file is closed


def test_vectors_come_back_without_a_copy(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    path = tmp_path / "vectors.arrow"
    write_arrow(path, vectors_schema(4), [vectors(matrix), vectors(matrix).slice(2, 3)])
    before_bytes = pa.total_allocated_bytes()
    with open_arrow(path, vectors_schema(4)) as file:
        first, second = (vector_matrix(batch.column("vector")) for batch in file.batches())
        assert pa.total_allocated_bytes() - before_bytes < matrix.nbytes
        assert np.array_equal(vector_matrix(file.table().column("vector")), np.concatenate([matrix, matrix[2:5]]))
    assert np.array_equal(first, matrix)
    assert np.array_equal(second, matrix[2:5])


def test_a_sliced_column_gives_its_own_rows() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert np.array_equal(vector_matrix(vector_column(matrix).slice(1, 3)), matrix[1:4])
    assert vector_matrix(vector_column(matrix).slice(0, 0)).shape == (0, 2)


def test_columns_go_by_name_and_others_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "catalog.arrow"
    odd_order = catalog("a").select(["content_hash", "attempt", "seq", "id"]).append_column("more", pa.array([1]))
    with arrow_writer(path, catalog_schema()) as writer:
        writer.write(odd_order)
        assert writer.rows == 1
    with open_arrow(path) as file:
        assert file.schema == catalog_schema()
        assert list(file.batches()) == [catalog("a")]
    write_arrow(path, odd_order.schema, [odd_order])
    with open_arrow(path, catalog_schema()) as file:
        assert list(file.batches()) == [catalog("a")]


def test_rows_that_do_not_fit_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "catalog.arrow"
    nulls = pa.RecordBatch.from_pydict({**catalog("a").to_pydict(), "id": [None]})
    for odd, why in [
        (catalog("a").drop_columns(["seq"]), "'seq' is missing"),
        (catalog("a").set_column(1, "seq", pa.array(["1"])), "'seq' is string"),
        (nulls.set_column(0, "id", pa.array([None], pa.string())), "'attempt' is int64"),
        (catalog("a").set_column(0, pa.field("id", pa.string()), pa.array([None], pa.string())), "'id' has nulls"),
    ]:
        with pytest.raises(InvalidInput, match=why):
            write_arrow(path, catalog_schema(), [catalog("b"), odd])
        assert not path.exists()


def test_an_error_of_the_source_leaves_no_file(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield catalog("a")
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError, match="lost"):
        write_arrow(tmp_path / "x", catalog_schema(), batches())
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalog.arrow"
    path.symlink_to("/dev/full")
    with pytest.raises(StorageFull, match=r"catalog\.arrow"):
        write_arrow(path, catalog_schema(), [catalog("a")])
    assert not path.is_symlink()
    assert Path("/dev/full").is_char_device()


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.arrow"), open_arrow(tmp_path / "none.arrow"):
        pass


@pytest.mark.parametrize("size_bytes", [0, 1, 8, 200, -1, -10, -300])
def test_a_truncated_file_is_corrupt_and_named(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "catalog.arrow"
    write_arrow(path, catalog_schema(), [catalog("a", "b")])
    path.write_bytes(path.read_bytes()[:size_bytes])
    with pytest.raises(CorruptData, match=r"catalog\.arrow"), open_arrow(path, catalog_schema()):
        pass


def test_another_schema_is_corrupt_and_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.arrow"
    write_arrow(path, vectors_schema(4), [])
    with pytest.raises(CorruptData, match=r"vectors\.arrow.*'vector' is fixed_size_list"):
        open_arrow(path, vectors_schema(5)).__enter__()
    with pytest.raises(CorruptData, match=r"vectors\.arrow.*'tries' is missing"):
        open_arrow(path, records_schema()).__enter__()


def test_errors_of_the_caller_pass_through_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "catalog.arrow"
    write_arrow(path, catalog_schema(), [])
    with pytest.raises(pa.ArrowInvalid, match="mine"), open_arrow(path):
        raise pa.ArrowInvalid("mine")


def test_damaged_bytes_give_rows_or_corrupt_data_and_never_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "catalog.arrow"
    write_arrow(path, catalog_schema(), [catalog("aé", "b", "ccc"), catalog("d")])
    whole = path.read_bytes()
    dice = random.Random(0)
    outcomes = {"rows": 0, "corrupt": 0}
    for _ in range(2_000):
        damaged = bytearray(whole)
        for _ in range(dice.choice([1, 1, 2, 8])):
            damaged[dice.randrange(len(damaged))] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
        path.write_bytes(damaged)
        try:
            with open_arrow(path, catalog_schema()) as file:
                file.table().to_pylist()
            outcomes["rows"] += 1
        except CorruptData:
            outcomes["corrupt"] += 1
    assert min(outcomes.values()) > 100


def test_nulls_in_a_foreign_file_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "catalog.arrow"
    loose = pa.schema([field.with_nullable(True) for field in catalog_schema()])
    batch = catalog("a").set_column(0, "id", pa.array([None], pa.string()))
    write_arrow(path, loose, [batch])
    with pytest.raises(CorruptData, match="'id' has nulls"), open_arrow(path, catalog_schema()) as file:
        file.table()


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()
