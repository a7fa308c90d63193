"""The suite of `embedpipe.ports.BatchTable`: conditions that hold under races, an index that follows, foreign items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import attrs
import pytest

from embedpipe.errors import PreconditionFailed
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.ports import BatchTable
from embedpipe.wire import index_keys, row_to_item
from verify.contracts._base import CONNECTIONS, Contract, in_parallel, patiently, race, required

__all__ = ["BatchTableContract"]

OpenPort = Callable[[], BatchTable]
WORDS, LINES = "WORD_EMBEDDING", "LINE_EMBEDDING"
FULL_ROW = BatchRow(
    batch_id="full",
    batch_type=WORDS,
    status=Status.PENDING,
    provider_batch_id="batch_1",
    submitted_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    result_file_id="file-out",
    provider_status="in_progress",
    request_count=50_000,
    request_sha256="a" * 64,
    records_sha256="b" * 64,
    seq=2**53 + 1,
    attempt=2,
    parent_batch_id="parent",
    collection="receipt_words",
    database="words",
    model="text-embedding-3-small",
    dimensions=1_536,
    input_file_id="file-in",
    creating_at=datetime(2026, 1, 2, tzinfo=UTC),
    not_before=datetime(2026, 1, 3, 4, tzinfo=UTC),
    retry_batch_ids=("r1", "r2"),
    completed_by="execution",
    snapshot_version="v6-x",
    reason="não, 日本 \U0001f600",
)


class BatchTableContract(Contract, abstract=True):
    """Define `create`, `connect`, `raw_read` and `raw_write`. A table whose index lags sets `index_lag_s`."""

    layout: ClassVar[Layout] = SEED
    """Names of the attributes that `raw_read` returns and `raw_write` is given."""
    many_rows: ClassVar[int] = 1_050
    """Rows of the longest listing."""
    increments: ClassVar[int] = 4
    """How often each of the sixteen writers updates one row."""

    @required
    def connect(self, store: Any) -> BatchTable:
        """Connect an adapter to the store."""
        raise NotImplementedError

    @required
    def raw_read(self, store: Any, batch_id: str) -> Mapping[str, Any] | None:
        """Read the item of a batch around the port: its attributes by name, or None where nothing is."""
        raise NotImplementedError

    @required
    def raw_write(self, store: Any, batch_id: str, item: Mapping[str, Any]) -> None:
        """Put an item around the port, as another program would; it replaces what is there."""
        raise NotImplementedError

    # --- rows ------------------------------------------------------------------------------------------------------

    def test_a_row_comes_back_as_it_is(self, port: BatchTable) -> None:
        small = row("small")
        assert port.put_new(FULL_ROW)
        assert port.put_new(small)
        assert port.get_many(["full", "small"]) == {"full": FULL_ROW, "small": small}

    def test_numbers_come_back_as_plain_integers(self, store: Any, port: BatchTable) -> None:
        self.raw_write(store, "b1", {**row_to_item(row("b1", request_count=7), self.layout), "theirs": 41})
        found = port.get_many(["b1"])["b1"]
        assert [type(number) for number in (found.request_count, found.revision, found.extra["theirs"])] == [int] * 3

    def test_the_item_has_the_names_of_the_layout(self, store: Any, port: BatchTable) -> None:
        port.put_new(FULL_ROW)
        found = self.raw_read(store, "full")
        assert found is not None
        assert {name: found.get(name) for name in row_to_item(FULL_ROW, self.layout)} == row_to_item(
            FULL_ROW, self.layout
        )
        assert self.raw_read(store, "missing") is None

    def test_put_new_changes_nothing_where_a_row_is(self, port: BatchTable) -> None:
        assert port.put_new(row("b1", reason="first"))
        assert not port.put_new(row("b1", reason="second", status=Status.FAILED))
        assert port.get_many(["b1"]) == {"b1": row("b1", reason="first")}
        assert self.eventually(lambda: ids(port, Status.PENDING) == ["b1"])
        assert ids(port, Status.FAILED) == []

    def test_get_many_takes_any_number_of_ids(self, port: BatchTable) -> None:
        rows = {f"b{index:03}": row(f"b{index:03}", request_count=index) for index in range(0, 250, 2)}
        for each in rows.values():
            port.put_new(each)
        asked = [f"b{index:03}" for index in range(250)]
        assert port.get_many(asked) == rows
        assert port.get_many([*asked, *reversed(asked), "b002", "b002"]) == rows
        assert port.get_many([]) == {}
        assert port.get_many(["missing"]) == {}

    def test_a_row_may_be_large(self, port: BatchTable) -> None:
        large = row("b1", reason="x" * 300_000, retry_batch_ids=tuple(f"r{index:04}" for index in range(1_000)))
        port.put_new(large)
        changed = port.update("b1", {"request_count": 1}, status=Status.PENDING, revision=0)
        assert port.get_many(["b1"]) == {"b1": changed}
        assert changed == attrs.evolve(large, request_count=1, revision=1)

    def test_a_second_connection_sees_every_change_at_once(self, open_port: OpenPort) -> None:
        writer, reader = open_port(), open_port()
        writer.put_new(row("b1"))
        for revision in range(20):
            after = writer.update("b1", {"reason": f"{revision}"}, status=Status.PENDING, revision=revision)
            assert reader.get_many(["b1"]) == {"b1": after}

    def test_what_others_write_is_read(self, store: Any, port: BatchTable) -> None:
        port.put_new(row("b1"))
        assert port.get_many(["b1"]) == {"b1": row("b1")}
        theirs = row("b1", status=Status.FAILED, revision=7, reason="theirs")
        self.raw_write(store, "b1", row_to_item(theirs, self.layout))
        assert port.get_many(["b1"]) == {"b1": theirs}
        assert self.eventually(lambda: (ids(port, Status.PENDING), ids(port, Status.FAILED)) == ([], ["b1"]))
        assert port.update("b1", {"reason": "ours"}, status=Status.FAILED, revision=7).revision == 8

    # --- updates ---------------------------------------------------------------------------------------------------

    def test_update_changes_what_it_names_and_counts(self, store: Any, port: BatchTable) -> None:
        port.put_new(FULL_ROW)
        changes = {"status": Status.COMPLETED, "completed_by": "e2", "retry_batch_ids": ("r3",), "not_before": None}
        after = port.update("full", changes, status=Status.PENDING, revision=0)
        assert after == attrs.evolve(FULL_ROW, **changes, revision=1)  # type: ignore[arg-type]  # by name
        assert port.get_many(["full"]) == {"full": after}
        again = port.update("full", {"retry_batch_ids": ()}, status=Status.COMPLETED, revision=1)
        assert again == attrs.evolve(after, retry_batch_ids=(), revision=2)
        found = self.raw_read(store, "full")
        assert found is not None
        assert found["revision"] == 2
        assert not {"not_before", "retry_batch_ids"} & found.keys()

    def test_update_refuses_another_status_or_revision(self, store: Any, port: BatchTable) -> None:
        port.put_new(row("b1"))
        port.update("b1", {"reason": "first"}, status=Status.PENDING, revision=0)
        before = self.raw_read(store, "b1")
        for status, revision in ((Status.PENDING, 0), (Status.PENDING, 2), (Status.CREATING, 1)):
            with pytest.raises(PreconditionFailed):
                port.update("b1", {"reason": "second"}, status=status, revision=revision)
        assert self.raw_read(store, "b1") == before

    def test_update_makes_no_row(self, store: Any, port: BatchTable) -> None:
        with pytest.raises(PreconditionFailed):
            port.update("b1", {"reason": "x"}, status=Status.PENDING, revision=0)
        assert port.get_many(["b1"]) == {}
        assert self.raw_read(store, "b1") is None

    def test_attributes_that_nobody_knows_stay(self, store: Any, port: BatchTable) -> None:
        unknown = {"team": "search", "tags": ["a", "b"], "nested": {"deep": [1, {"x": None}]}, "count": 3, "on": True}
        self.raw_write(store, "b1", {**row_to_item(row("b1"), self.layout), **unknown})
        after = port.update("b1", {"status": Status.FAILED, "reason": None}, status=Status.PENDING, revision=0)
        found = self.raw_read(store, "b1")
        assert found is not None
        assert {name: found.get(name) for name in unknown} == unknown
        assert after.extra == unknown
        assert port.get_many(["b1"]) == {"b1": after}

    def test_a_row_of_the_seed_has_revision_0(self, store: Any, port: BatchTable) -> None:
        old = row_to_item(row("b1", provider_batch_id="batch_1"), self.layout)
        self.raw_write(store, "b1", {name: old[name] for name in old if name not in ("attempt", "revision")})
        assert port.get_many(["b1"]) == {"b1": row("b1", provider_batch_id="batch_1")}
        after = port.update("b1", {"status": Status.COMPLETED}, status=Status.PENDING, revision=0)
        assert (after.revision, after.status) == (1, Status.COMPLETED)
        with pytest.raises(PreconditionFailed):
            port.update("b1", {"status": Status.FAILED}, status=Status.COMPLETED, revision=0)

    # --- races -----------------------------------------------------------------------------------------------------

    def test_of_sixteen_inserters_one_wins(self, open_port: OpenPort) -> None:
        ports = [open_port() for _ in range(CONNECTIONS)]
        for round_ in range(5):
            rows = [row(f"b{round_}", request_count=index) for index in range(CONNECTIONS)]
            results = race([partial(port.put_new, new) for port, new in zip(ports, rows, strict=True)])
            assert sorted(results) == [False] * (CONNECTIONS - 1) + [True]  # type: ignore[type-var]  # all are booleans
            assert ports[0].get_many([f"b{round_}"]) == {f"b{round_}": rows[results.index(True)]}

    def test_of_sixteen_updaters_one_wins(self, open_port: OpenPort) -> None:
        ports = [open_port() for _ in range(CONNECTIONS)]
        ports[0].put_new(row("b1"))
        for revision in range(5):
            works = [partial(sign, port, f"{index}", revision) for index, port in enumerate(ports)]
            results = race(works)
            winners = [result for result in results if isinstance(result, BatchRow)]
            assert len(winners) == 1, f"{len(winners)} updates of one revision were told that they won"
            assert sum(isinstance(result, PreconditionFailed) for result in results) == CONNECTIONS - 1
            assert ports[0].get_many(["b1"]) == {"b1": winners[0]}

    def test_updates_of_one_row_lose_no_step(self, open_port: OpenPort) -> None:
        ports = [open_port() for _ in range(CONNECTIONS)]
        ports[0].put_new(row("b1", request_count=0))
        assert race([partial(self._count, port) for port in ports]) == [self.increments] * CONNECTIONS
        found = ports[0].get_many(["b1"])["b1"]
        assert (found.request_count, found.revision) == (self.increments * CONNECTIONS,) * 2

    def _count(self, port: BatchTable) -> int:
        moved = 0
        while moved < self.increments:
            before = patiently(lambda: port.get_many(["b1"]))["b1"]
            changes = {"request_count": (before.request_count or 0) + 1}
            try:
                patiently(lambda: port.update("b1", changes, status=Status.PENDING, revision=before.revision))  # noqa: B023  called at once
            except PreconditionFailed:
                continue
            moved += 1
        return moved

    def test_one_connection_serves_many_threads(self, port: BatchTable) -> None:
        def work(index: int) -> bool:
            names = [f"b{index:02}-{step}" for step in range(10)]
            for name in names:
                patiently(lambda: port.put_new(row(name)))  # noqa: B023  called at once
                patiently(lambda: port.update(name, {"reason": name}, status=Status.PENDING, revision=0))  # noqa: B023  called at once
            return all(port.get_many(names)[name].reason == name for name in names)

        assert race([partial(work, index) for index in range(CONNECTIONS)]) == [True] * CONNECTIONS

    # --- the index -------------------------------------------------------------------------------------------------

    def test_the_index_follows_the_status(self, store: Any, port: BatchTable) -> None:
        port.put_new(row("b1", status=Status.INTENT))
        moves = (Status.INTENT, Status.CREATING, Status.PENDING, Status.COMPLETED)
        for revision, (before, after) in enumerate(pairwise(moves)):
            port.update("b1", {"status": after}, status=before, revision=revision)
            assert self.eventually(lambda: (ids(port, before), ids(port, after)) == ([], ["b1"]))  # noqa: B023  called at once
            found = self.raw_read(store, "b1")
            assert found is not None
            wanted = index_keys("b1", WORDS, after, self.layout)
            assert {name: found.get(name) for name in wanted} == wanted

    def test_the_index_tells_types_and_statuses_apart(self, port: BatchTable) -> None:
        types = (WORDS, LINES, "WORD_EMBEDDING_2", "CROSS_WORD_EMBEDDING", "W")
        for batch_type in types:
            for status in Status:
                port.put_new(row(f"{batch_type}.{status}", batch_type=batch_type, status=status))
        for batch_type in types:
            for status in Status:
                assert self.eventually(
                    lambda: list(port.by_status(batch_type, status)) == [f"{batch_type}.{status}"]  # noqa: B023  called at once
                )
        assert list(port.by_status("NEVER_EMBEDDING", Status.PENDING)) == []

    def test_the_index_is_in_order_and_resumes(self, port: BatchTable) -> None:
        names = sorted(["a", "a-b", "a.b", "a0", "aa", "a_b", "A", "Z", "0", "z" * 128, "b", "b1", "b10", "b2"])
        for name in reversed(names):
            port.put_new(row(name))
        assert self.eventually(lambda: ids(port, Status.PENDING) == names)
        for after in (*names, "a-", "b1x", "~", "-"):
            assert list(port.by_status(WORDS, Status.PENDING, after=after)) == [name for name in names if name > after]

    def test_a_long_index_is_complete_while_its_rows_change(self, port: BatchTable) -> None:
        names = [f"b{index:05}" for index in range(self.many_rows)]
        in_parallel([partial(port.put_new, row(name)) for name in reversed(names)])
        assert self.eventually(lambda: ids(port, Status.PENDING) == names)
        assert list(port.by_status(WORDS, Status.PENDING, after=names[-3])) == names[-2:]
        seen = []
        for name in port.by_status(WORDS, Status.PENDING):
            port.update(name, {"status": Status.FAILED}, status=Status.PENDING, revision=0)
            seen.append(name)
        assert seen == names
        assert self.eventually(lambda: (ids(port, Status.PENDING), ids(port, Status.FAILED)) == ([], names))

    # --- a shared table --------------------------------------------------------------------------------------------

    def test_items_of_other_types_are_neither_read_nor_changed(self, store: Any, port: BatchTable) -> None:
        port.put_new(row("b1"))
        theirs = {
            **row_to_item(row("b2"), self.layout),
            self.layout.type_attribute: "INVOICE",
            self.layout.index_sk: "INVOICE#b2",
            "total": 5,
        }
        self.raw_write(store, "b2", theirs)
        assert self.eventually(lambda: ids(port, Status.PENDING) == ["b1"])
        assert list(port.get_many(["b1", "b2"])) == ["b1"]
        with pytest.raises(PreconditionFailed):
            port.update("b2", {"status": Status.FAILED}, status=Status.PENDING, revision=0)
        assert self.raw_read(store, "b2") == theirs


def row(batch_id: str, *, batch_type: str = WORDS, status: Status = Status.PENDING, **fields: Any) -> BatchRow:
    """A row with few fields."""
    return BatchRow(batch_id=batch_id, batch_type=batch_type, status=status, **fields)


def sign(port: BatchTable, name: str, revision: int) -> BatchRow:
    """Update the row of the races."""
    return port.update("b1", {"completed_by": name}, status=Status.PENDING, revision=revision)


def ids(port: BatchTable, status: Status) -> list[str]:
    """What the index says of the words."""
    return list(port.by_status(WORDS, status))
