"""The values: checked when made, ordered by claim, equal by content."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedpipe.errors import InvalidId, InvalidInput
from embedpipe.lifecycle import Status
from embedpipe.limits import METADATA_BYTES_MAX, METADATA_KEYS_MAX
from embedpipe.model import (
    BUILT_IN_KINDS,
    LINE,
    WORD,
    BatchRow,
    Claim,
    EmbeddingModel,
    Hit,
    Kind,
    ProviderBatch,
    Record,
    RequestCounts,
    content_hasher,
    kind_named,
    metadata_from_json,
    metadata_json,
)

TEXT = st.text(st.characters(codec="utf-8"))
METADATA = st.dictionaries(
    TEXT.filter(bool),
    TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    max_size=4,
)

# --- records -------------------------------------------------------------------------------------------------------


def test_a_record_is_its_fields_and_not_its_source() -> None:
    record = Record(id="../any\nthing \U0001f600", text="t", metadata={"a": 1}, source="f:1")
    assert record == attrs.evolve(record, source="g:2")
    assert record != attrs.evolve(record, metadata={"a": 2})


@pytest.mark.parametrize("text", ["", " ", "\n\t\u00a0\u2028", None, 7, b"text"])
def test_a_record_without_text_is_refused_with_its_place(text: object) -> None:
    with pytest.raises(InvalidInput, match=r"^Record 'a' \(notes\.txt:7\) has no text\. Give it a non-empty 'text'"):
        Record(id="a", text=text, source="notes.txt:7")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"a": None}, "metadata 'a' must be a string, number or boolean. Flatten nested values, and leave out nulls."),
        ({"a": {"b": 1}}, "metadata 'a' must be"),
        ({"a": ["b"]}, "metadata 'a' must be"),
        ({"": "x"}, "metadata '' must be"),
        ({7: "x"}, "metadata 7 must be"),
        ({"a": float("nan")}, "metadata 'a' is not a finite number."),
        ({"a": float("inf")}, "metadata 'a' is not a finite number."),
        ({"a": 2**63}, "metadata 'a' needs more than 64 bits. Make it text."),
        ({"a": -(2**63) - 1}, "metadata 'a' needs more than 64 bits."),
        ({"a": "\ud800"}, "the metadata is not valid Unicode."),
        ({"a": "x" * METADATA_BYTES_MAX}, f"metadata of {METADATA_BYTES_MAX + 8} bytes; at most {METADATA_BYTES_MAX}."),
        (["a"], "'metadata' must be an object of names and values."),
    ],
)
def test_metadata_is_flat_finite_and_bounded(metadata: object, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Record(id="a", text="t", metadata=metadata)  # type: ignore[arg-type]  # wrong on purpose
    assert str(caught.value).startswith(f"Record 'a': {why}")


@pytest.mark.parametrize(
    "metadata",
    [{"a": 2**63 - 1}, {"a": -(2**63)}, {"a": 0, "b": False, "c": 0.5}, {"a": "x" * (METADATA_BYTES_MAX - 8)}, {}],
)
def test_metadata_may_be_as_large_as_it_says(metadata: dict[str, str | int | float | bool]) -> None:
    assert Record(id="a", text="t", metadata=metadata).metadata == metadata


def test_text_and_id_are_unicode() -> None:
    with pytest.raises(InvalidInput, match="lone surrogate"):
        Record(id="a", text="x\ud800")
    with pytest.raises(InvalidId, match="lone surrogate"):
        Record(id="a\udfff", text="x")
    with pytest.raises(InvalidId, match="non-empty"):
        Record(id="", text="x")


# --- content -------------------------------------------------------------------------------------------------------


@given(METADATA)
def test_metadata_survives_as_canonical_json(metadata: dict[str, object]) -> None:
    text = metadata_json(metadata)  # type: ignore[arg-type]  # hypothesis gives object
    assert dict(metadata_from_json(text)) == metadata
    assert metadata_json(metadata_from_json(text)) == text
    assert metadata_json(dict(reversed(metadata.items()))) == text  # type: ignore[arg-type]
    assert (text == "") == (not metadata)
    assert text == "" or json.loads(text) == metadata


CONTENT = st.tuples(st.sampled_from(["m", "m1", "m:"]), st.integers(1, 12), st.text('1:{}"a', max_size=4), METADATA)


@given(CONTENT, CONTENT)
@example(("m", 11, "x", {}), ("m1", 1, "x", {}))
@example(("m", 1, "1:x", {}), ("m", 11, ":x", {}))
@example(("m", 1, 'a{"b":1}', {}), ("m", 1, "a", {"b": 1}))
def test_the_content_hash_is_equal_where_all_four_are(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    def hashed(content: tuple) -> bytes:  # type: ignore[type-arg]
        model, dimensions, text, metadata = content
        return content_hasher(model, dimensions)([text], [metadata_json(metadata)])[0]

    equal = one[:3] == other[:3] and metadata_json(one[3]) == metadata_json(other[3])
    assert (hashed(one) == hashed(other)) == equal
    assert len(hashed(one)) == 16


# --- claims, kinds, rows -------------------------------------------------------------------------------------------


@given(st.tuples(st.integers(0, 3), st.integers(1, 3)), st.tuples(st.integers(0, 3), st.integers(1, 3)))
def test_claims_are_ordered_by_submission_then_attempt(one: tuple[int, int], other: tuple[int, int]) -> None:
    first, second = (Claim(seq=seq, attempt=attempt) for seq, attempt in (one, other))
    assert (first < second, first == second) == (one < other, one == other)


def test_the_built_in_kinds_are_the_seeds() -> None:
    assert (WORD.database, WORD.collection, WORD.batch_type, WORD.state_name) == (
        "words",
        "receipt_words",
        "WORD_EMBEDDING",
        "Word",
    )
    assert (LINE.database, LINE.collection, LINE.batch_type, LINE.state_name) == (
        "lines",
        "receipt_lines",
        "LINE_EMBEDDING",
        "Line",
    )
    assert kind_named("word") is WORD
    assert BUILT_IN_KINDS == {"word": WORD, "line": LINE}


def test_any_other_name_is_a_kind() -> None:
    kind = kind_named("my-notes")
    assert kind == Kind("my-notes", database="my-notes", collection="my-notes")
    assert (kind.batch_type, kind.state_name) == ("MY_NOTES_EMBEDDING", "MyNotes")


@pytest.mark.parametrize("name", ["", "../x", "Notes", "a/b", "a\n", "1a", "x" * 64, None])
def test_a_kind_is_named_safely(name: str) -> None:
    with pytest.raises(InvalidId, match="^kind "):
        Kind(name)
    with pytest.raises(InvalidId, match="^database "):
        Kind("notes", database=name)
    with pytest.raises(InvalidId, match="^collection "):
        Kind("notes", collection=name)


def row(**fields: object) -> BatchRow:
    return BatchRow(**{"batch_id": "b", "batch_type": "WORD_EMBEDDING", "status": Status.PENDING, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "serves"),
    [
        ({}, True),  # a seed's row names neither
        ({"database": "words"}, True),
        ({"database": "words", "collection": "receipt_words"}, True),
        ({"database": "words", "collection": "other"}, False),
        ({"database": "other", "collection": "receipt_words"}, False),
        ({"batch_type": "LINE_EMBEDDING", "database": "words", "collection": "receipt_words"}, False),
    ],
)
def test_a_row_serves_one_collection(fields: dict[str, object], serves: bool) -> None:
    assert row(**fields).serves(WORD) is serves


def test_a_rows_claim() -> None:
    assert row(seq=7, attempt=2).claim == Claim(seq=7, attempt=2)
    assert row().claim == Claim(seq=0, attempt=1)  # a seed's row is older than all of ours


def test_what_is_not_said_is_nothing() -> None:
    assert (row().revision, row().retry_batch_ids, row().extra) == (0, (), {})
    assert RequestCounts() == RequestCounts(total=0, completed=0, failed=0)
    assert ProviderBatch(id="p", status="completed").metadata == {}
    assert EmbeddingModel(name="m", dimensions=1).send_dimensions is False


@pytest.mark.parametrize("batch_id", ["", "../b", "b\n", None])
def test_a_row_has_a_safe_id(batch_id: object) -> None:
    with pytest.raises(InvalidId, match="batch_id"):
        row(batch_id=batch_id)


@pytest.mark.parametrize("wrong", [{"name": ""}, {"dimensions": 0}, {"dimensions": -1}])
def test_a_model_makes_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmbeddingModel(**{"name": "m", "dimensions": 3, **wrong})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(("given", "kept"), [(-2.4e-7, 0.0), (2.000001, 2.0), (0.25, 0.25)])
def test_a_distance_is_cut_off_where_rounding_leaves_its_range(given: float, kept: float) -> None:
    assert Hit(id="a", distance=given, document=None, metadata={}).distance == kept


def test_metadata_has_a_bounded_number_of_names_and_is_the_records_own() -> None:
    given = {f"name{at}": at for at in range(METADATA_KEYS_MAX)}
    record = Record(id="a", text="t", metadata=given)
    given["late"] = object()
    assert "late" not in record.metadata
    with pytest.raises(InvalidInput, match=r"1001 names; at most 1000\..*"):
        Record(id="a", text="t", metadata=given)
