"""The DynamoDB table against the shipped suite, in process and over HTTP, and what is special about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from typing import Any

import attrs
import pytest

from embedpipe.backends.dynamodb import BACKOFF, DynamoDBBatchTable
from embedpipe.backends.dynamodb_items import decode_item, encode_item, encode_value
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config, build
from embedpipe.errors import (
    ConfigError,
    CorruptData,
    EmbedpipeError,
    InvalidInput,
    PreconditionFailed,
    ServiceError,
    Throttled,
    Unauthorized,
    Unavailable,
    WriteConflict,
)
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.limits import BATCH_GET_KEYS_MAX
from embedpipe.model import BatchRow
from embedpipe.wire import row_to_item
from tests.contract.aws import Cloud, Wire, in_process, made_up, over_http, write_all
from verify.contracts import BatchTableContract

CLOCK = SystemClock()


def key(batch_id: str) -> dict[str, Any]:
    return {"PK": {"S": f"BATCH#{batch_id}"}, "SK": {"S": "STATUS"}}


class DynamoDBSuite(BatchTableContract, abstract=True):
    many_rows = 150

    @pytest.fixture(autouse=True)
    def _cloud(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws = cloud
        # So that an index of `many_rows` has three pages: a longer one takes moto many seconds.
        monkeypatch.setattr("embedpipe.backends.dynamodb.PAGE_ROWS", 60)

    def create(self) -> str:
        return self.aws.new_table()

    def connect(self, store: str) -> DynamoDBBatchTable:
        return DynamoDBBatchTable(store, CLOCK, session=self.aws.session, **self.aws.where)

    def raw_read(self, store: str, batch_id: str) -> Mapping[str, Any] | None:
        found = self.aws.client("dynamodb").get_item(TableName=store, Key=key(batch_id), ConsistentRead=True)
        return decode_item(found["Item"]) if "Item" in found else None

    def raw_write(self, store: str, batch_id: str, item: Mapping[str, Any]) -> None:
        self.aws.client("dynamodb").put_item(TableName=store, Item=encode_item(item))


class TestInProcess(DynamoDBSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def cloud(cls) -> Iterator[Cloud]:
        with in_process() as cloud:
            yield cloud


class TestOverHttp(DynamoDBSuite):
    increments = 2

    @pytest.fixture(scope="class")
    @classmethod
    def cloud(cls) -> Iterator[Cloud]:
        with over_http() as cloud:
            yield cloud


# --- what is special ---------------------------------------------------------------------------------------------------

FOREIGN = 10_000


@pytest.fixture(scope="module")
def http() -> Iterator[Cloud]:
    with over_http() as cloud:
        yield cloud


@pytest.fixture
def name(http: Cloud) -> str:
    return http.new_table()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def table(http: Cloud, name: str, wire: Wire, clock: MemoryClock) -> Iterator[DynamoDBBatchTable]:
    with closing(DynamoDBBatchTable(name, clock, session=wire.session, attempts=2, **http.where)) as made:
        yield made


def row(batch_id: str, **fields: Any) -> BatchRow:
    return BatchRow(**{"batch_id": batch_id, "batch_type": "WORD_EMBEDDING", "status": Status.PENDING, **fields})


def pending(table: DynamoDBBatchTable, *, after: str = "") -> list[str]:
    return list(table.by_status("WORD_EMBEDDING", Status.PENDING, after=after))


# --- a shared table --------------------------------------------------------------------------------------------------


def foreign_item(number: int) -> dict[str, object]:
    """Of four other types: one in our partition of the index, one under our rows' keys, and two apart."""
    return (
        {"PK": f"INVOICE#{number}", "SK": "STATUS", "GSI1PK": "STATUS#PENDING", "GSI1SK": f"INVOICE#{number:05}"},
        {"PK": f"BATCH#b{number % 60:02}", "SK": f"EVENT#{number}", "GSI1PK": "EVENTS", "GSI1SK": f"{number:05}"},
        {"PK": f"USER#{number}", "SK": "STATUS", "GSI1PK": "STATUS#PENDING", "GSI1SK": f"USER#{number:05}"},
        {"PK": f"PLAIN#{number}", "SK": "STATUS"},
    )[number % 4] | {"TYPE": "THEIRS", "number": number}


def theirs(cloud: Cloud, table: str) -> dict[tuple[object, object], dict[str, object]]:
    pages = cloud.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    items = [decode_item(item) for page in pages for item in page["Items"]]
    return {(item["PK"], item["SK"]): item for item in items if item["TYPE"] == "THEIRS"}


def keys_of(params: Mapping[str, Any], table: str) -> list[Mapping[str, Any]]:
    """The keys that a call names."""
    if "RequestItems" in params:
        return list(params["RequestItems"][table]["Keys"])
    return [params[part] for part in ("Key", "Item") if part in params]


def test_ten_thousand_foreign_items_are_neither_read_nor_written() -> None:
    with in_process() as cloud:
        name, wire = cloud.new_table(), Wire()
        foreign = [foreign_item(number) for number in range(FOREIGN)]
        write_all(cloud, name, foreign)
        table = DynamoDBBatchTable(name, CLOCK, session=wire.session, **cloud.where)
        names = [f"b{number:02}" for number in range(60)]

        assert all(table.put_new(row(each)) for each in names)
        assert not table.put_new(row("b00"))
        assert (pending(table), pending(table, after="b57")) == (names, ["b58", "b59"])
        for each in names[:50]:
            table.update(each, {"status": Status.COMPLETED}, status=Status.PENDING, revision=0)
        with pytest.raises(PreconditionFailed):
            table.update("b00", {"status": Status.FAILED}, status=Status.PENDING, revision=0)
        assert pending(table) == names[50:]
        assert list(table.get_many([*names, "b60"])) == names

        assert set(wire.operations()) == {"PutItem", "BatchGetItem", "Query", "UpdateItem"}  # so nothing scans
        ours = {(f"BATCH#{each}", "STATUS") for each in [*names, "b60"]}
        named = [decode_item(key) for _, params in wire.calls for key in keys_of(params, name)]
        assert {(key["PK"], key["SK"]) for key in named} == ours
        queries = [answer for operation, answer in wire.answers if operation == "Query"]
        assert [answer["ScannedCount"] for answer in queries] == [60, 2 + 1, 10]  # the one is where it resumes
        read = [item for _, answer in wire.answers for item in answer.get("Responses", {}).get(name, ())]
        assert {str(decode_item(item)["TYPE"]) for item in read} == {"BATCH_SUMMARY"}
        assert theirs(cloud, name) == {(item["PK"], item["SK"]): item for item in foreign}


# --- requests --------------------------------------------------------------------------------------------------------


def test_update_sends_the_named_fields_and_its_condition(table: DynamoDBBatchTable, wire: Wire) -> None:
    table.put_new(row("b1", reason="why"))
    table.update("b1", {"status": Status.COMPLETED, "reason": None}, status=Status.PENDING, revision=0)
    sent = wire.last("UpdateItem")
    assert sent["Key"] == key("b1")
    assert set(sent["ExpressionAttributeNames"].values()) == {"TYPE", "status", "revision", "GSI1PK", "reason"}
    assert sent["ConditionExpression"] == "#n0 = :v0 AND #n1 = :v1 AND (#n2 = :v2 OR attribute_not_exists(#n2))"
    assert (sent["ReturnValues"], sent["ReturnValuesOnConditionCheckFailure"]) == ("ALL_NEW", "ALL_OLD")
    table.update("b1", {"reason": "x"}, status=Status.COMPLETED, revision=1)
    assert wire.last("UpdateItem")["ConditionExpression"] == "#n0 = :v0 AND #n1 = :v1 AND #n2 = :v2"
    assert wire.operations() == ["PutItem", "UpdateItem", "UpdateItem"]  # nothing is read before


def test_a_refused_update_says_what_it_found(table: DynamoDBBatchTable) -> None:
    table.put_new(row("b1", status=Status.CREATING))
    with pytest.raises(PreconditionFailed, match="Row of batch b1 is CREATING at revision 0, not PENDING at 3"):
        table.update("b1", {"reason": "x"}, status=Status.PENDING, revision=3)
    with pytest.raises(PreconditionFailed, match="There is no row for batch b2"):
        table.update("b2", {"reason": "x"}, status=Status.PENDING, revision=0)


def test_get_many_asks_for_a_hundred_at_a_time_consistently(table: DynamoDBBatchTable, wire: Wire, name: str) -> None:
    names = [f"b{number:03}" for number in range(250)]
    assert table.get_many([*names, *names]) == {}
    asked = [params["RequestItems"][name] for _, params in wire.calls]
    assert [len(each["Keys"]) for each in asked] == [100, 100, 50]
    assert all(each["ConsistentRead"] for each in asked)


def test_keys_that_are_left_are_asked_for_again(
    table: DynamoDBBatchTable, wire: Wire, name: str, clock: MemoryClock
) -> None:
    rows = {f"b{number}": row(f"b{number}") for number in range(BATCH_GET_KEYS_MAX)}
    for each in rows.values():
        table.put_new(each)
    wire.calls.clear()
    began = clock.monotonic_s()
    for done in (0, 0, 40, 0, 30):
        wire.answer(lambda request, done=done: first_ones(request, name, rows, done), on="BatchGetItem")
    assert table.get_many(list(rows)) == rows
    asked = [len(params["RequestItems"][name]["Keys"]) for _, params in wire.calls]
    assert asked == [100, 100, 100, 60, 60, 30]
    assert clock.monotonic_s() - began == pytest.approx(0.05 + 0.1 + 0.05 + 0.1 + 0.05)


def first_ones(request: Any, table: str, rows: Mapping[str, BatchRow], count: int) -> Any:
    """An answer with the first of the keys; the others are left."""
    wanted = json.loads(request.body)["RequestItems"][table]["Keys"]
    done = [encode_item(row_to_item(rows[each["PK"]["S"].removeprefix("BATCH#")], SEED)) for each in wanted[:count]]
    left = {table: {"Keys": wanted[count:], "ConsistentRead": True}}
    return made_up(request, 200, {}, json.dumps({"Responses": {table: done}, "UnprocessedKeys": left}).encode())


def test_a_table_that_leaves_all_keys_is_throttled(
    table: DynamoDBBatchTable, wire: Wire, name: str, clock: MemoryClock
) -> None:
    began = clock.monotonic_s()
    for _ in range(BACKOFF.attempts):
        wire.answer(lambda request: first_ones(request, name, {}, 0))
    with pytest.raises(Throttled, match="DynamoDB left 1 of them .* read capacity"):
        table.get_many(["b1"])
    assert clock.monotonic_s() - began == pytest.approx(sum(BACKOFF.delays()))
    assert len(wire.sent) == BACKOFF.attempts


def test_the_index_is_read_a_page_at_a_time(
    table: DynamoDBBatchTable, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedpipe.backends.dynamodb.PAGE_ROWS", 4)
    names = [f"b{number}" for number in range(10)]
    for each in names:
        table.put_new(row(each))
    wire.calls.clear()
    found = table.by_status("WORD_EMBEDDING", Status.PENDING)
    assert wire.calls == []
    assert [next(found) for _ in range(4)] == names[:4]
    assert len(wire.calls) == 1
    assert list(found) == names[4:]
    assert {params["IndexName"] for _, params in wire.calls} == {"GSI1"}


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_write_is_sent_once_and_says_what_is_known(table: DynamoDBBatchTable, wire: Wire) -> None:
    table.put_new(row("b1"))
    for status, code, error in (
        (400, "ProvisionedThroughputExceededException", Throttled),
        (400, "ThrottlingException", Throttled),
        (400, "RequestLimitExceeded", Throttled),
        (500, "InternalServerError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (400, "TransactionConflictException", WriteConflict),
        (400, "AccessDeniedException", Unauthorized),
        (400, "ExpiredTokenException", Unauthorized),
        (400, "ResourceNotFoundException", ConfigError),
    ):
        for call in (
            lambda: table.put_new(row("b2")),
            lambda: table.update("b1", {"reason": "x"}, status=Status.PENDING, revision=0),
        ):
            wire.sent.clear()
            wire.fail(status, code, times=2)
            with pytest.raises(error):
                call()
            assert len(wire.sent) == 1
            wire.faults.clear()
    assert table.get_many(["b1", "b2"]) == {"b1": row("b1")}


def test_a_write_whose_answer_is_lost_is_unknown_and_meets_itself(table: DynamoDBBatchTable, wire: Wire) -> None:
    wire.lose_answer()
    with pytest.raises(Unavailable):
        table.put_new(row("b1"))
    assert not table.put_new(row("b1"))
    wire.lose_answer()
    with pytest.raises(Unavailable):
        table.update("b1", {"reason": "x"}, status=Status.PENDING, revision=0)
    assert table.get_many(["b1"]) == {"b1": row("b1", reason="x", revision=1)}
    with pytest.raises(PreconditionFailed):
        table.update("b1", {"reason": "x"}, status=Status.PENDING, revision=0)


def test_reads_are_repeated_by_the_sdk(table: DynamoDBBatchTable, wire: Wire) -> None:
    table.put_new(row("b1"))
    wire.sent.clear()
    wire.fail(400, "ProvisionedThroughputExceededException")
    assert list(table.get_many(["b1"])) == ["b1"]
    wire.fail(500, "InternalServerError")
    assert pending(table) == ["b1"]
    assert wire.sent == ["BatchGetItem", "BatchGetItem", "Query", "Query"]
    wire.fail(400, "ProvisionedThroughputExceededException", times=2)
    with pytest.raises(Throttled):
        pending(table)


def test_an_answer_without_what_was_asked_for_is_none(table: DynamoDBBatchTable, wire: Wire) -> None:
    for call in (
        lambda: table.get_many(["b1"]),
        lambda: pending(table),
        lambda: table.update("b1", {}, status=Status.PENDING, revision=0),
    ):
        wire.answer(lambda request: made_up(request, 200, {}, b"<html>Please sign in</html>"))
        with pytest.raises(Unavailable, match="gave no whole answer"):
            call()


def test_what_is_denied_names_the_permission(table: DynamoDBBatchTable, wire: Wire, name: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        f"dynamodb:PutItem on table/{name}": lambda: table.put_new(row("b1")),
        f"dynamodb:BatchGetItem on table/{name}": lambda: table.get_many(["b1"]),
        f"dynamodb:Query on table/{name}/index/GSI1": lambda: pending(table),
        f"dynamodb:UpdateItem on table/{name}": lambda: table.update("b1", {}, status=Status.PENDING, revision=0),
    }
    for permission, call in calls.items():
        wire.fail(400, "AccessDeniedException")
        with pytest.raises(Unauthorized) as caught:
            call()
        assert f"Allow {permission}." in caught.value.hint


def test_a_missing_table_is_said_by_every_call(http: Cloud) -> None:
    table = DynamoDBBatchTable("nobodys", CLOCK, **http.where)
    for call in (
        lambda: table.put_new(row("b1")),
        lambda: table.get_many(["b1"]),
        lambda: pending(table),
        lambda: table.update("b1", {}, status=Status.PENDING, revision=0),
    ):
        with pytest.raises(
            ConfigError, match="There is no table 'nobodys' in eu-central-1 for this account: create it"
        ):
            call()


def test_a_table_without_the_index_is_said(http: Cloud) -> None:
    name = http.new_table(Layout(index_name="ByStatus"))
    table = DynamoDBBatchTable(name, CLOCK, **http.where)
    assert table.put_new(row("b1"))
    with pytest.raises(ConfigError, match="Add the index to table .* or set layout.index_name"):
        pending(table)


def test_a_table_with_other_keys_is_said(http: Cloud) -> None:
    name = http.new_table(Layout(pk="id", sk="range"))
    with pytest.raises(ConfigError, match=r"other names than the layout says: set them under \[layout\]"):
        DynamoDBBatchTable(name, CLOCK, **http.where).put_new(row("b1"))


@pytest.mark.parametrize(
    ("message", "error", "hint"),
    [
        ("The table does not have the specified index: GSI1", ConfigError, "Add the index"),
        ("Cannot read from backfilling global secondary index: GSI1", Unavailable, "is being built"),
        ("The provided key element does not match the schema", ConfigError, "other names"),
        ("Query condition missed key schema element: GSI1PK", ConfigError, "other names"),
        ("One or more parameter values were invalid: Missing the key id in the item", ConfigError, "other names"),
        ("Type mismatch for key PK expected: N actual: S", ConfigError, "other names"),
        ("Item size has exceeded the maximum allowed size", InvalidInput, "at most 409600"),
        ("Item size to update has exceeded the maximum allowed size", InvalidInput, "at most 409600"),
        ("something new", ServiceError, ""),
    ],
)
def test_the_words_of_aws_are_understood(
    table: DynamoDBBatchTable, wire: Wire, message: str, error: type[EmbedpipeError], hint: str
) -> None:
    wire.fail(400, "ValidationException", message=message)
    with pytest.raises(error) as caught:
        pending(table)
    assert type(caught.value) is error
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_what_cannot_be_reached_or_has_no_region_is_said(monkeypatch: pytest.MonkeyPatch, http: Cloud) -> None:
    with pytest.raises(Throttled, match=r"can't be reached .*table.endpoint_url"):
        DynamoDBBatchTable("t", CLOCK, endpoint_url="http://127.0.0.1:9", region="eu-central-1").put_new(row("b1"))
    with pytest.raises(ConfigError, match="Set table.region, or AWS_DEFAULT_REGION"):
        DynamoDBBatchTable("t", CLOCK).put_new(row("b1"))
    with pytest.raises(ConfigError, match="table.name is not set"):
        build(Config.load(flags={"table.backend": "dynamodb"}, env={}), clock=CLOCK)


# --- items -----------------------------------------------------------------------------------------------------------


def test_a_row_that_is_too_large_is_refused(table: DynamoDBBatchTable) -> None:
    with pytest.raises(InvalidInput, match="at most 409600 bytes"):
        table.put_new(row("b1", reason="x" * 410_000))
    table.put_new(row("b1", reason="x" * 300_000))
    with pytest.raises(InvalidInput, match="at most 409600 bytes"):
        table.update("b1", {"retry_batch_ids": ("y" * 110_000,)}, status=Status.PENDING, revision=0)
    assert table.get_many(["b1"])["b1"].revision == 0


def test_attributes_of_every_type_survive_an_update(table: DynamoDBBatchTable, http: Cloud, name: str) -> None:
    theirs: dict[str, Any] = {
        "price": Decimal("1.50"),
        "great": 10**37,
        "texts": frozenset({"a", "b"}),
        "numbers": frozenset({1, Decimal("2.5")}),
        "bytes": b"\x00\xff",
        "pieces": frozenset({b"a"}),
        "nested": {"list": [1, None, {"on": True}], "empty": ""},
    }
    item = encode_item({**row_to_item(row("b1"), SEED), **theirs})
    http.client("dynamodb").put_item(TableName=name, Item=item)
    assert table.get_many(["b1"])["b1"].extra == theirs
    assert table.update("b1", {"reason": "x"}, status=Status.PENDING, revision=0).extra == theirs
    found = http.client("dynamodb").get_item(TableName=name, Key=key("b1"))["Item"]
    assert {attribute: found[attribute] for attribute in theirs} == {attribute: item[attribute] for attribute in theirs}
    assert table.put_new(row("b2", extra=theirs))
    assert table.get_many(["b2"])["b2"].extra == theirs


def test_what_no_table_can_hold_is_refused() -> None:
    for value in (object(), frozenset(), frozenset({1, "a"}), frozenset({None})):
        with pytest.raises(TypeError, match="table"):
            encode_value(value)


def test_a_damaged_row_is_corrupt_and_named(table: DynamoDBBatchTable, http: Cloud, name: str) -> None:
    for damage in ({"revision": "one"}, {"status": "LOST"}, {"request_count": Decimal("1.5")}):
        item = encode_item({**row_to_item(row("b1"), SEED), **damage})
        http.client("dynamodb").put_item(TableName=name, Item=item)
        with pytest.raises(CorruptData, match="BATCH#b1"):
            table.get_many(["b1"])
        with pytest.raises(CorruptData, match="BATCH#b1"):
            table.update("b1", {}, status=Status.PENDING, revision=7)


def test_another_layout(http: Cloud) -> None:
    layout = Layout(
        pk="key",
        sk="range",
        index_pk="gpk",
        index_sk="gsk",
        index_name="ByState",
        pk_value="b/{batch_id}/summary",
        index_sk_value="{batch_id}|{batch_type}",
        attributes={"revision": "version", "status": "state"},
        statuses={"PENDING": "open"},
    )
    name = http.new_table(layout)
    table = DynamoDBBatchTable(name, CLOCK, layout, **http.where)
    neighbour = {"key": "b/b1/summary", "range": "DETAIL", "gpk": "STATUS#open", "gsk": "x", "TYPE": "DETAIL"}
    http.client("dynamodb").put_item(TableName=name, Item=encode_item(neighbour))
    assert table.put_new(row("b1"))
    assert table.put_new(row("b2"))
    assert (pending(table), pending(table, after="b1")) == (["b1", "b2"], ["b2"])
    after = table.update("b1", {"status": Status.FAILED}, status=Status.PENDING, revision=0)
    assert after == attrs.evolve(row("b1"), status=Status.FAILED, revision=1)
    found = http.client("dynamodb").get_item(
        TableName=name, Key={"key": {"S": "b/b1/summary"}, "range": {"S": "STATUS"}}
    )
    item = decode_item(found["Item"])
    assert item.items() >= {"version": 1, "state": "FAILED", "gpk": "STATUS#FAILED", "gsk": "b1|WORD_EMBEDDING"}.items()
    assert pending(table) == ["b2"]


def test_words_of_others_are_read_and_never_written(http: Cloud, name: str) -> None:
    layout = Layout(more_statuses={"IN_PROGRESS": "PENDING", "FINALIZING": "PENDING"})
    table = DynamoDBBatchTable(name, CLOCK, layout, **http.where)
    for number, word in enumerate(("FINALIZING", "PENDING", "IN_PROGRESS", "FAILED", "FINALIZING")):
        write_all(http, name, [{**row_to_item(row(f"b{number}"), layout), "status": word, "GSI1PK": f"STATUS#{word}"}])
    assert (pending(table), pending(table, after="b1")) == (["b0", "b1", "b2", "b4"], ["b2", "b4"])
    assert table.update("b2", {"status": Status.FAILED}, status=Status.PENDING, revision=0).status is Status.FAILED
    with pytest.raises(PreconditionFailed, match="b3 is FAILED"):
        table.update("b3", {"reason": "x"}, status=Status.PENDING, revision=0)
    assert pending(table) == ["b0", "b1", "b4"]
