"""The seed's envelopes as they are written: reading then writing each is the identity, and what is odd is named."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.errors import CorruptData, NewerSchema
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Action, Status
from embedpipe.model import BatchRow
from embedpipe.stages.normalize import given_results
from embedpipe.wire import (
    Delta,
    Envelope,
    Head,
    Listing,
    Manifest,
    Mark,
    MarkInput,
    Normalised,
    PendingBatch,
    Reference,
    Result,
    Root,
    changes_to_item,
    decode,
    encode,
    format_time,
    item_to_row,
    parse_time,
    row_to_item,
)

CORPUS = Path(__file__).parents[1] / "corpus" / "seed"
ENVELOPES: dict[str, type[Envelope]] = {
    "listing-inline": Listing,
    "listing-by-manifest": Listing,
    "manifest": Manifest,
    "poll-input": PendingBatch,
    "result": Result,
    "result-wait": Result,
    "result-failed": Result,
    "reference": Reference,
    "normalised": Normalised,
    "mark-input": MarkInput,
}
ELSEWHERE = {"normalise-input", "normalise-input-legacy", "poll-results", "table-item"}
"""Files that are no envelope of their own; each has its test below."""


def corpus(name: str) -> Any:
    return json.loads((CORPUS / f"{name}.json").read_text())


def test_every_file_of_the_corpus_is_tested() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == ENVELOPES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", ENVELOPES)
def test_reading_then_writing_is_the_identity(name: str) -> None:
    written = ENVELOPES[name].load((CORPUS / f"{name}.json").read_bytes(), name).dump()
    assert json.loads(written) == corpus(name)
    assert list(json.loads(written)) == list(corpus(name))  # in the same order, too


@pytest.mark.parametrize("name", ENVELOPES)
def test_a_workflow_state_is_read_like_a_file(name: str) -> None:
    kind = ENVELOPES[name]
    assert kind.load(corpus(name), name) == kind.load((CORPUS / f"{name}.json").read_bytes(), name)
    assert kind.load(corpus(name), name).to_dict() == corpus(name)


def test_poll_results_is_an_array_of_results() -> None:
    results = Result.load_many((CORPUS / "poll-results.json").read_bytes(), "poll-results")
    assert [result.to_dict() for result in results] == corpus("poll-results")
    assert [(result.action, result.embedding_count) for result in results] == [
        (Action.PROCESS_RESULTS, 100),
        (Action.WAIT, 0),  # a null counts as absent
    ]


def test_what_the_map_returned_may_be_references_results_or_null() -> None:
    assert given_results(corpus("normalise-input")["poll_results"]) == {}
    legacy = corpus("normalise-input-legacy")["poll_results"]
    found = given_results(legacy)
    assert [result.to_dict() for result in found.values()] == [legacy[2]]
    assert [type(item) for item in legacy] == [dict, type(None), dict]


def test_the_seeds_table_item() -> None:
    item = corpus("table-item")
    row = item_to_row(item, SEED)
    assert row == BatchRow(
        batch_id="0b9d1c2e-1111-4222-8333-444455556666",
        batch_type="WORD_EMBEDDING",
        status=Status.PENDING,
        provider_batch_id=item["openai_batch_id"],
        submitted_at=parse_time("2025-11-22T20:15:31.204518Z"),
        result_file_id="N/A",
        extra={"receipt_refs": item["receipt_refs"]},
    )
    written = row_to_item(row, SEED)
    assert parse_time(str(written.pop("submitted_at"))) == parse_time(item.pop("submitted_at"))
    added = {name: written.pop(name) for name in ("batch_id", "attempt")}
    assert (written, added) == (item, {"batch_id": row.batch_id, "attempt": 1})


def test_an_update_touches_what_it_names_and_the_index() -> None:
    item = corpus("table-item")
    changes = {"status": Status.COMPLETED, "completed_by": "e", "result_file_id": None, "retry_batch_ids": ()}
    sets, removes = changes_to_item(changes, item_to_row(item, SEED), SEED)
    assert sets == {
        "status": "COMPLETED",
        "completed_by": "e",
        "GSI1PK": "STATUS#COMPLETED",
        "GSI1SK": item["GSI1SK"],
    }
    assert removes == ("result_file_id", "retry_batch_ids")
    with pytest.raises(ValueError, match=r"cannot change \['batch_id', 'colour'\]"):
        changes_to_item({"batch_id": "x", "colour": 1}, item_to_row(item, SEED), SEED)


def test_another_deployment_has_other_names() -> None:
    layout = Layout(
        pk="pk",
        pk_value="batch/{batch_id}/summary",
        attributes={"provider_batch_id": "job", "status": "state"},
        statuses={"PENDING": "waiting"},
    )
    row = BatchRow(batch_id="b1", batch_type="WORD_EMBEDDING", status=Status.PENDING, provider_batch_id="p1")
    item = row_to_item(row, layout)
    assert (item["pk"], item["job"], item["state"]) == ("batch/b1/summary", "p1", "waiting")
    assert item["GSI1PK"] == "STATUS#waiting"
    assert item_to_row(item, layout) == row
    with pytest.raises(CorruptData, match="is not a batch"):
        item_to_row(item, SEED)


# --- what is missing, null or unknown ------------------------------------------------------------------------------


def test_fields_of_ours_are_left_out_while_they_have_their_default() -> None:
    result = Result(batch_id="b", action=Action.WAIT)
    assert result.to_dict() == {
        "batch_id": "b",
        "openai_batch_id": None,
        "batch_status": None,
        "action": "wait",
        "results_count": 0,
        "delta_id": None,
        "delta_key": None,
        "embedding_count": 0,
        "storage": None,
        "schema": 1,
    }
    assert attrs.evolve(result, reason="running").to_dict()["reason"] == "running"


def test_what_was_read_is_kept_beside_what_is_changed() -> None:
    read = Result.load(b'{"theirs":{"a":[null]},"batch_id":"b","action":"wait","delta_id":null}', "x")
    changed = attrs.evolve(read, action=Action.PROCESS_RESULTS, embedding_count=3)
    assert changed.to_dict() == {
        "theirs": {"a": [None]},
        "batch_id": "b",
        "action": "process_results",
        "delta_id": None,
        "embedding_count": 3,
    }
    assert read.raw is not None
    assert read.to_dict()["action"] == "wait"  # the value that was read has not changed


def test_a_field_named_as_ours_inside_is_no_danger() -> None:
    given = {"root_id": "r", "created_at": "t", "raw": {"root_id": "x"}}
    assert Root.load(given, "x").to_dict() == given


def test_a_nested_envelope_keeps_its_unknown_fields() -> None:
    given = corpus("manifest")
    given["batches"][1]["colour"] = "green"
    given["batches"][0]["openai_batch_id"] = None
    assert json.loads(Manifest.load(given, "m").dump()) == given


# --- refusals ------------------------------------------------------------------------------------------------------

GOOD = {"batch_id": "b", "action": "wait"}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"batch_id": 1}, "poll.json: expected str, got int @ .batch_id"),
        ({"batch_id": None}, "poll.json: required field missing @ .batch_id"),
        ({"action": "zap"}, "poll.json: expected an action, got 'zap' @ .action"),
        ({"action": ["wait"]}, "poll.json: expected an action, got list @ .action"),
        ({"results_count": "7"}, "poll.json: expected int, got str @ .results_count"),
        ({"results_count": 7.0}, "poll.json: expected int, got float @ .results_count"),
        ({"embedding_count": True}, "poll.json: expected int, got bool @ .embedding_count"),
        ({"delta_key": {"a": 1}}, "poll.json: expected str, got dict @ .delta_key"),
        ({"schema": True}, "poll.json: expected int, got bool @ .schema"),
        ({"schema": 2.5}, "poll.json: expected int, got float @ .schema"),
        ({"schema": "2"}, "poll.json: expected int, got str @ .schema"),
    ],
)
def test_a_wrong_type_names_object_and_field(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(CorruptData) as caught:
        Result.load(encode({**GOOD, **fields}), "poll.json")
    assert str(caught.value) == sentence
    assert caught.value.context == {"where": "poll.json"}


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(CorruptData) as caught:
        Result.load(b'{"batch_id":1,"results_count":"x","delta_id":[]}', "r")
    assert [part.partition("@ ")[2] for part in str(caught.value).split("; ")] == [
        ".batch_id",
        ".action",
        ".results_count",
        ".delta_id",
    ]


@pytest.mark.parametrize("wrong", ["b1", {"batch_id": "b1"}, 7, True])
def test_an_array_is_an_array(wrong: object) -> None:
    with pytest.raises(CorruptData, match=r"m: expected an array, got \w+ @ \.batches"):
        Manifest.load({**corpus("manifest"), "batches": wrong}, "m")
    with pytest.raises(CorruptData, match=r"expected an array, got \w+ @ \.retry_batch_ids"):
        Mark.load({"batch_id": "b", "outcome": "marked", "retry_batch_ids": wrong}, "m")


def test_a_wrong_item_of_an_array_is_named_by_its_index() -> None:
    manifest = corpus("manifest")
    manifest["batches"][1]["batch_id"] = 7
    with pytest.raises(CorruptData, match=r"m: expected str, got int @ \.batches\[1\]\.batch_id"):
        Manifest.load(manifest, "m")
    manifest["batches"][1] = None
    with pytest.raises(CorruptData, match=r"m: expected an object, got NoneType @ \.batches\[1\]"):
        Manifest.load(manifest, "m")
    with pytest.raises(CorruptData, match=r"r\[1\] is not an object but str\."):
        Result.load_many(encode([GOOD, "x"]), "r")


@pytest.mark.parametrize("schema", [2, 10**6, 10**30])
def test_a_newer_schema_is_refused_by_name(schema: int) -> None:
    with pytest.raises(NewerSchema, match=rf"head\.json has schema {schema}; this version reads up to 1\. Upgrade"):
        Head.load(encode({"database": "d", "collection": "c", "seq": 1, "schema": schema}), "head.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"7",
        b"[]",
        b'"text"',
        b"not json",
        b'{"batch_id":"b","action":"wait"}}',
        b'\xef\xbb\xbf{"batch_id":"b","action":"wait"}',
        b'{"batch_id":"b","action":"wait","x":NaN}',
        b'{"batch_id":"b","action":"wait","x":-Infinity}',
        b'{"batch_id":"b","action":"wait","x":1e999}',
        b'{"batch_id":"b","action":"wait","x":"\xff"}',
        b'{"batch_id":"b","action":"wait","\xff":1}',
        b'{"batch_id":"b","action":"wait","x":"\\ud800"}',
        b'{"batch_id":"b","action":"wait","x":' + b"9" * 5_000 + b"}",
        b'{"batch_id":"b","action":"wait","results_count":1e3}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_envelope_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptData, match=r"^r\.json"):
        Result.load(data, "r.json")


@pytest.mark.parametrize("data", [b"null", b"{}", b'"text"', b"7", b"true"])
def test_an_array_of_envelopes_is_an_array(data: bytes) -> None:
    with pytest.raises(CorruptData, match=r"^r\.json is not an array\.$"):
        Result.load_many(data, "r.json")


@pytest.mark.parametrize("depth", [101, 500, 900, 5_000])
@pytest.mark.parametrize("field", ["reason", "theirs"])
def test_deep_nesting_is_refused(depth: int, field: str) -> None:
    text = f'{{"batch_id":"b","action":"wait","{field}":{"[" * depth}{"]" * depth}}}'
    with pytest.raises(CorruptData):
        Result.load(text.encode(), "r")


def test_what_can_be_read_can_be_written_again_from_any_depth_of_calls() -> None:
    given = {**GOOD, "theirs": decode(b"[" * 100 + b"]" * 100, "x")}
    result = Result.load(encode(given), "r")

    def deeper(calls: int) -> bytes:
        return result.dump() if calls == 0 else deeper(calls - 1)

    assert json.loads(deeper(500)) == given


def test_huge_whole_numbers_survive() -> None:
    given = {**GOOD, "theirs": 10**300, "results_count": 2**70}
    assert json.loads(Result.load(encode(given), "r").dump()) == given


ITEM = {"PK": "BATCH#b1", "SK": "STATUS", "TYPE": "BATCH_SUMMARY", "status": "PENDING", "batch_type": "X_EMBEDDING"}


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("PK", 5),
        ("PK", "USER#7"),
        ("PK", "BATCH#"),
        ("PK", "BATCH#../../etc"),
        ("PK", "BATCH#b\n"),
        ("status", None),
        ("status", "DONE"),
        ("status", ["PENDING"]),
        ("status", {}),
        ("batch_type", 7),
        ("seq", "1"),
        ("seq", True),
        ("seq", 1.5),
        ("seq", float("nan")),
        ("seq", float("inf")),
        ("seq", Decimal("NaN")),
        ("seq", Decimal("sNaN")),
        ("seq", Decimal("1E+1000000")),
        ("seq", 2**63),
        ("seq", 1j),
        ("revision", b"1"),
        ("submitted_at", 5),
        ("submitted_at", "yesterday"),
        ("submitted_at", "0001-01-01T00:00:00+23:59"),
        ("submitted_at", "9999-12-31T23:59:59-23:59"),
        ("retry_batch_ids", 5),
        ("retry_batch_ids", "r1"),
        ("retry_batch_ids", ["r1", 2]),
        ("retry_batch_ids", {"r1": "r2"}),
        ("model", ["m"]),
        ("openai_batch_id", 7),
    ],
)
def test_an_odd_item_is_corrupt_and_named(attribute: str, value: object) -> None:
    with pytest.raises(CorruptData) as caught:
        item_to_row({**ITEM, attribute: value}, SEED)
    assert str(caught.value).startswith("Table item ")
    assert attribute in str(caught.value) or attribute == "PK"


@pytest.mark.parametrize(("given", "number"), [(7, 7), (7.0, 7), (Decimal(7), 7), (Decimal("7E+3"), 7_000), (-1, -1)])
def test_numbers_come_in_many_types(given: object, number: int) -> None:
    found = item_to_row({**ITEM, "seq": given}, SEED).seq
    assert (found, type(found)) == (number, int)


def test_attributes_that_are_not_ours_are_kept() -> None:
    row = item_to_row({**ITEM, "extra": 1, "raw": None, "provider_batch_id": "not the seed's name"}, SEED)
    assert row.extra == {"extra": 1, "raw": None, "provider_batch_id": "not the seed's name"}
    assert row.provider_batch_id is None


# --- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05.000006Z"),
        ("2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-01-02", "2026-01-02T00:00:00Z"),
    ],
)
def test_times(text: str, written: str) -> None:
    assert format_time(parse_time(text)) == written


def test_a_delta_says_all_of_itself() -> None:
    """Written by us: every field is there, nothing is left to a reader's defaults."""
    delta = Delta(
        delta_id="d",
        batch_id="b",
        database="words",
        collection="receipt_words",
        model="m",
        dimensions=3,
        batch_status="completed",
        request_count=2,
        embedding_count=1,
        rejected_count=1,
        retry_count=0,
        files=(),
        created_at="2026-01-02T03:04:05Z",
    )
    assert json.loads(delta.dump()).keys() == {field.name for field in attrs.fields(Delta)} - {"raw"}
    assert Delta.load(delta.dump(), "delta.json") == delta
