"""The batch tables that are shipped, against the shipped suite, and what is special about each."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.sqlite import SqliteBatchTable
from embedpipe.errors import ConfigError, CorruptData, NewerSchema, PreconditionFailed, Throttled
from embedpipe.layout import Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import row_to_item
from tests.contract.processes import finish, run_on_small_disk, start
from verify.contracts import BatchTableContract


class TestMemoryBatchTable(BatchTableContract):
    def create(self) -> MemoryBatchTable:
        return MemoryBatchTable()

    def connect(self, store: MemoryBatchTable) -> MemoryBatchTable:
        return store

    def raw_read(self, store: MemoryBatchTable, batch_id: str) -> Mapping[str, Any] | None:
        return store.read_raw(batch_id)

    def raw_write(self, store: MemoryBatchTable, batch_id: str, item: Mapping[str, Any]) -> None:
        store.write_raw(item)


class TestSqliteBatchTable(BatchTableContract):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "folder" / "table.sqlite3"

    def create(self) -> Path:
        return self.path

    def connect(self, store: Path) -> SqliteBatchTable:
        return SqliteBatchTable(store)

    def raw_read(self, store: Path, batch_id: str) -> Mapping[str, Any] | None:
        if not store.exists():
            return None
        with closing(sqlite3.connect(store)) as connection:
            found = connection.execute("SELECT item FROM items WHERE pk = ?", (f"BATCH#{batch_id}",)).fetchone()
        return json.loads(found[0]) if found else None

    def raw_write(self, store: Path, batch_id: str, item: Mapping[str, Any]) -> None:
        with closing(SqliteBatchTable(store)) as table:
            table.write_raw(item)


# --- SQLite: what is special -----------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Iterator[SqliteBatchTable]:
    with closing(SqliteBatchTable(tmp_path / "table")) as made:
        yield made


def new_row(batch_id: str, **fields: Any) -> BatchRow:
    return BatchRow(batch_id=batch_id, batch_type="WORD_EMBEDDING", status=Status.PENDING, **fields)


COUNT_UP = """
    import sys
    from pathlib import Path
    from embedpipe.backends.sqlite import SqliteBatchTable
    from embedpipe.errors import PreconditionFailed
    from embedpipe.lifecycle import Status
    from embedpipe.model import BatchRow

    table, name, moves = SqliteBatchTable(Path(sys.argv[1])), sys.argv[2], 0
    rows = [BatchRow(batch_id=f"b{n}", batch_type="WORD_EMBEDDING", status=Status.PENDING, reason=name) for n in range(100)]
    won = sum(table.put_new(row) for row in rows)
    while moves < 40:
        row = table.get_many(["b0"])["b0"]
        try:
            changes = {"request_count": (row.request_count or 0) + 1}
            table.update("b0", changes, status=row.status, revision=row.revision)
            moves += 1
        except PreconditionFailed:
            pass
    print(won)
"""


def test_conditions_hold_between_processes(table: SqliteBatchTable, tmp_path: Path) -> None:
    processes = [start(COUNT_UP, tmp_path / "table", name) for name in "abcd"]  # all four make the file
    won = [int(finish(process)) for process in processes]
    rows = table.get_many([f"b{number}" for number in range(100)])
    assert [sum(row.reason == name for row in rows.values()) for name in "abcd"] == won
    assert sum(won) == 100
    assert (rows["b0"].request_count, rows["b0"].revision) == (160, 160)


UPDATE_FOR_EVER = """
    import sys
    from pathlib import Path
    from embedpipe.backends.sqlite import SqliteBatchTable

    table = SqliteBatchTable(Path(sys.argv[1]))
    print("ready", flush=True)
    while True:
        row = table.get_many(["b0"])["b0"]
        number = row.revision + 1
        changes = {"request_count": number, "reason": f"{number:08d}" * 5_000}
        table.update("b0", changes, status=row.status, revision=row.revision)
        print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_rows_and_loses_none(table: SqliteBatchTable, tmp_path: Path) -> None:
    table.put_new(new_row("b0", request_count=0, reason=""))
    for attempt in range(6):
        process = start(UPDATE_FOR_EVER, tmp_path / "table")
        assert process.stdout is not None
        for _ in range(2 + 5 * attempt):
            process.stdout.readline()
        process.kill()
        said, _ = process.communicate()
        row = table.get_many(["b0"])["b0"]
        assert row.request_count == row.revision
        assert row.reason == f"{row.revision:08d}" * 5_000
        assert row.revision >= max((int(number) for number in said.split("\n")[:-1] if number), default=0)
        table.update("b0", {"completed_by": "us"}, status=row.status, revision=row.revision)
        row = table.get_many(["b0"])["b0"]
        changes = {"request_count": row.revision + 1, "reason": f"{row.revision + 1:08d}" * 5_000}
        table.update("b0", changes, status=row.status, revision=row.revision)


BEGIN_TOGETHER = """
    import os, sys
    from pathlib import Path
    from embedpipe.backends.sqlite import SqliteBatchTable
    from embedpipe.lifecycle import Status
    from embedpipe.model import BatchRow

    for attempt in range(40):
        closed, opened = os.pipe()
        pids = []
        for number in range(5):
            pid = os.fork()
            if pid == 0:
                os.close(opened)
                os.read(closed, 1)  # ends for all at one time
                row = BatchRow(batch_id=f"b{number}", batch_type="W", status=Status.PENDING)
                os._exit(not SqliteBatchTable(Path(sys.argv[1]) / str(attempt)).put_new(row))
            pids.append(pid)
        os.close(opened)
        print(*(os.waitpid(pid, 0)[1] for pid in pids))
        os.close(closed)
"""


def test_processes_that_begin_a_table_together_wait_for_each_other(tmp_path: Path) -> None:
    assert finish(start(BEGIN_TOGETHER, tmp_path)).split() == ["0"] * 200


FILL_TABLE = """
    import sys
    from pathlib import Path
    from embedpipe.backends.sqlite import SqliteBatchTable
    from embedpipe.errors import StorageFull
    from embedpipe.lifecycle import Status
    from embedpipe.model import BatchRow

    table, kept = SqliteBatchTable(Path(sys.argv[1]) / "table"), []
    for number in range(100):
        row = BatchRow(batch_id=f"b{number}", batch_type="W", status=Status.PENDING, reason="x" * 50_000)
        try:
            table.put_new(row)
        except StorageFull as error:
            print(error)
            break
        kept.append(row.batch_id)
    print(list(table.get_many([f"b{number}" for number in range(100)])) == kept, 3 < len(kept) < 20)
"""


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    error, kept = run_on_small_disk(FILL_TABLE, tmp_path, tmp_path).splitlines()
    assert "Free some space" in error
    assert kept == "True True"


def test_a_table_that_stays_locked_is_throttled(table: SqliteBatchTable, tmp_path: Path) -> None:
    table.put_new(new_row("b0"))
    with closing(sqlite3.connect(tmp_path / "table", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(SqliteBatchTable(tmp_path / "table", busy_timeout_s=0.05)) as hasty:
            with pytest.raises(Throttled):
                hasty.put_new(new_row("b1"))
            assert list(hasty.get_many(["b0", "b1"])) == ["b0"]  # readers do not wait for writers
            other.execute("ROLLBACK")
            assert hasty.put_new(new_row("b1"))


def test_a_damaged_file_is_corrupt(table: SqliteBatchTable, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"no database, certainly" * 100)
    with pytest.raises(CorruptData):
        table.get_many(["b0"])
    with pytest.raises(CorruptData):
        table.put_new(new_row("b0"))


def test_a_damaged_item_is_corrupt_and_named(table: SqliteBatchTable, tmp_path: Path) -> None:
    table.put_new(new_row("b0"))
    for text in ("{", "[]"):
        with closing(sqlite3.connect(tmp_path / "table")) as other, other:
            other.execute("UPDATE items SET item = ?", (text,))
        with pytest.raises(CorruptData, match="BATCH#b0"):
            table.get_many(["b0"])


def test_a_newer_file_is_refused(table: SqliteBatchTable, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "table")) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(NewerSchema):
        table.put_new(new_row("b0"))


def test_another_programs_database_is_refused(table: SqliteBatchTable, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "table")) as other:
        other.execute("CREATE TABLE contacts (name TEXT)")
    with pytest.raises(ConfigError):
        table.put_new(new_row("b0"))
    with closing(sqlite3.connect(tmp_path / "table")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("contacts",)]


def test_reading_a_table_that_nobody_wrote_makes_nothing(table: SqliteBatchTable, tmp_path: Path) -> None:
    assert table.get_many(["b0"]) == {}
    assert list(table.by_status("WORD_EMBEDDING", Status.PENDING)) == []
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_is_quiet_and_a_later_call_opens_again(table: SqliteBatchTable) -> None:
    table.put_new(new_row("b0"))
    table.close()
    table.close()
    assert list(table.get_many(["b0"])) == ["b0"]


def test_threads_that_end_leave_no_connections(table: SqliteBatchTable) -> None:
    table.put_new(new_row("b0"))
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        thread = threading.Thread(target=table.get_many, args=(["b0"],))
        thread.start()
        thread.join()
    assert len(os.listdir("/dev/fd")) <= before


@pytest.mark.parametrize("make", [lambda path, layout: MemoryBatchTable(layout), SqliteBatchTable])
def test_another_layout_and_a_neighbour_under_the_same_partition(make: Any, tmp_path: Path) -> None:
    layout = Layout(
        pk="key",
        sk="range",
        index_pk="gpk",
        index_sk="gsk",
        pk_value="b/{batch_id}/summary",
        index_sk_value="{batch_id}|{batch_type}",
        attributes={"revision": "version", "status": "state"},
        statuses={"PENDING": "open"},
    )
    table = make(tmp_path / "table", layout)
    neighbour = {"key": "b/b1/summary", "range": "DETAIL", "gpk": "STATUS#open", "gsk": "x", "TYPE": "DETAIL"}
    table.write_raw(neighbour)
    assert table.put_new(new_row("b1"))
    assert table.put_new(new_row("b2"))
    assert list(table.by_status("WORD_EMBEDDING", Status.PENDING)) == ["b1", "b2"]
    assert list(table.by_status("WORD_EMBEDDING", Status.PENDING, after="b1")) == ["b2"]
    assert list(table.by_status("LINE_EMBEDDING", Status.PENDING)) == []
    table.update("b1", {"status": Status.FAILED}, status=Status.PENDING, revision=0)
    assert {**table.read_raw("b1")}.items() >= {"version": 1, "state": "FAILED", "gpk": "STATUS#FAILED"}.items()
    assert list(table.get_many(["b1"]).values()) == [attrs.evolve(new_row("b1"), status=Status.FAILED, revision=1)]
    close = getattr(table, "close", lambda: None)
    close()


def test_memory_items_are_copies() -> None:
    table, tags = MemoryBatchTable(), ["ours"]
    table.put_new(new_row("b1", extra={"tags": tags}))
    tags.append("changed later")
    found = table.read_raw("b1") or {}
    found["reason"] = "changed later"
    assert (table.read_raw("b1") or {})["tags"] == ["ours"]
    assert table.get_many(["b1"]) == {"b1": new_row("b1", extra={"tags": ["ours"]})}


# --- words of others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_words_of_others_are_read_and_never_written(backend: str, tmp_path: Path) -> None:
    layout = Layout(more_statuses={"IN_PROGRESS": "PENDING", "FINALIZING": "PENDING"})
    table = MemoryBatchTable(layout) if backend == "memory" else SqliteBatchTable(tmp_path / "table", layout)
    for number in range(30):
        word = ("PENDING", "IN_PROGRESS", "FINALIZING", "COMPLETED", "UNKNOWN")[number % 5]
        item = row_to_item(new_row(f"b{number:02}"), layout)
        table.write_raw({**item, "status": word, "GSI1PK": f"STATUS#{word}"})
    names = [f"b{number:02}" for number in range(30) if number % 5 < 3]
    found = [list(table.by_status("WORD_EMBEDDING", Status.PENDING, after=after)) for after in ("", "b07", "b11")]
    assert found == [[name for name in names if name > after] for after in ("", "b07", "b11")]
    assert {row.status for row in table.get_many(names).values()} == {Status.PENDING}
    table.update("b01", {"reason": "x"}, status=Status.PENDING, revision=0)
    after = table.update("b01", {"status": Status.COMPLETED}, status=Status.PENDING, revision=1)
    assert (after.status, after.revision) == (Status.COMPLETED, 2)
    item = table.read_raw("b01")
    assert item is not None
    assert (item["status"], item["GSI1PK"]) == ("COMPLETED", "STATUS#COMPLETED")
    with pytest.raises(PreconditionFailed):
        table.update("b06", {}, status=Status.COMPLETED, revision=0)
    if isinstance(table, SqliteBatchTable):
        table.close()
