"""What is new, how it is cut, how batches are named, and the ledger: each against a plain model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs
import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedpipe.errors import CollectionMismatch, DuplicateRecord, InvalidInput
from embedpipe.lifecycle import OPEN, Status
from embedpipe.limits import BYTES_PER_TOKEN_MAX, SUBMITTERS_KEPT, Limits
from embedpipe.model import BatchRow, EmbeddingModel, Kind
from embedpipe.stages.creation import check_collection
from embedpipe.stages.submit import (
    DRAFT_SCHEMA,
    KNOWN_SCHEMA,
    Cut,
    batch_id,
    closed_roots,
    new_drafts,
    next_head,
    pieces,
    records_batch,
    request_bytes,
    request_lines,
    seq_of,
    unique,
)
from embedpipe.vectors import records_schema
from embedpipe.wire import Head, OpenRoot

IDS = ["a", "b", "c", "d", "é", "\uffff", "\U0001f600"]
MODEL = EmbeddingModel(name="m", dimensions=3)
KIND = Kind("notes")


def drafts(rows: Sequence[tuple[str, str]]) -> pa.Table:
    """(id, text), sorted; the line is the position, from 1."""
    columns = [
        [name for name, _ in rows],
        [text.encode().ljust(16, b".")[:16] for _, text in rows],
        [text for _, text in rows],
        ["" for _ in rows],
        ["f" for _ in rows],
        list(range(1, len(rows) + 1)),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, DRAFT_SCHEMA, strict=True)]
    return pa.table(arrays, schema=DRAFT_SCHEMA)


def known_batch(rows: Sequence[tuple[str, tuple[int, int], str]]) -> pa.RecordBatch:
    columns = [
        [name for name, _, _ in rows],
        [claim[0] for _, claim, _ in rows],
        [claim[1] for _, claim, _ in rows],
        [text.encode().ljust(16, b".")[:16] for _, _, text in rows],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, KNOWN_SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=KNOWN_SCHEMA)


def cut_at(rows: list[Any], edges: Sequence[int]) -> list[list[Any]]:
    clipped = [0, *sorted(min(edge, len(rows)) for edge in edges), len(rows)]
    return [rows[start:end] for start, end in pairwise(clipped)]


def by_id(row: tuple[Any, ...]) -> bytes:
    return str(row[0]).encode()


TEXTS = st.sampled_from(["one", "two", "three"])
EDGES = st.lists(st.integers(0, 8), max_size=4)

# --- which are new -------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(IDS), TEXTS), max_size=10))
def test_doubled_ids_with_one_content_count_once_and_others_are_refused(rows: list[tuple[str, str]]) -> None:
    texts: dict[str, set[str]] = {}
    for name, text in rows:
        texts.setdefault(name, set()).add(text)
    clashing = {name for name, found in texts.items() if len(found) > 1}
    if clashing:
        with pytest.raises(DuplicateRecord, match=r": f:\d+ and f:\d+\.") as caught:
            unique(drafts(rows))
        assert caught.value.context["record_id"] in clashing
        return
    kept = [(row["id"], row["document"]) for row in unique(drafts(rows)).to_pylist()]
    assert kept == sorted(((name, text) for name, (text,) in texts.items()), key=by_id)


def test_the_two_places_of_a_doubled_id_are_named() -> None:
    with pytest.raises(DuplicateRecord, match=r"Record 'b' comes twice with different content: f:2 and f:4\."):
        unique(drafts([("a", "x"), ("b", "x"), ("c", "x"), ("b", "y")]))


@given(
    st.dictionaries(st.sampled_from(IDS), TEXTS),
    st.lists(
        st.lists(st.tuples(st.sampled_from(IDS), st.tuples(st.integers(1, 3), st.integers(1, 2)), TEXTS), max_size=6)
    ),
    EDGES,
    EDGES,
    st.booleans(),
)
def test_a_record_is_skipped_where_its_greatest_claim_says_the_same(
    texts: dict[str, str],
    known: list[list[tuple[str, tuple[int, int], str]]],
    draft_edges: list[int],
    known_edges: list[int],
    doubled: bool,
) -> None:
    said: dict[tuple[str, tuple[int, int]], str] = {}
    streams = []
    for claims in known:
        # One claim says one thing, wherever it is written down.
        rows = [(name, claim, said.setdefault((name, claim), text)) for name, claim, text in sorted(claims, key=by_id)]
        streams.append([known_batch(part) for part in cut_at(rows, known_edges)])
    greatest = {}
    for (name, claim), text in said.items():
        greatest[name] = max(greatest.get(name, ((0, 0), "")), (claim, text))
    rows = sorted(texts.items(), key=by_id)
    mine = [drafts(part).combine_chunks().to_batches() for part in cut_at(rows, draft_edges)]
    batches = [batch for part in mine for batch in part]
    windows = list(new_drafts([batches, batches] if doubled else [batches], streams))
    kept = [(row["id"], row["document"]) for window, _ in windows for row in window.to_pylist()]
    assert kept == [(name, text) for name, text in rows if greatest.get(name, (None, None))[1] != text]
    assert sum(skipped for _, skipped in windows) == len(rows) - len(kept)


def test_an_older_claim_that_says_the_same_is_no_reason_to_skip() -> None:
    """Trace T4: seq 1 says "1" and is open, seq 2 says "2" and is merged; "1" is new again."""
    mine = drafts([("r", "1")]).to_batches()
    old, new = [known_batch([("r", (1, 1), "1")])], [known_batch([("r", (2, 1), "2")])]
    assert [kept.num_rows for kept, _ in new_drafts([mine], [old, new])] == [1]
    assert [kept.num_rows for kept, _ in new_drafts([mine], [old])] == [0]


# --- cuts ----------------------------------------------------------------------------------------------------------

SIZES = st.lists(st.integers(1, 60), max_size=25)
LIMITS = st.builds(
    Limits,
    requests_per_batch=st.integers(1, 8),
    file_bytes=st.integers(600, 1_800),
    tokens_per_input=st.just(8_192),
    tokens_per_batch=st.just(0) | st.integers(1, 150),
)


CHARACTERS = 'x"\\\n\x01\x7f\u00e9\u2028\U0001f600/'
"""Of one byte and of several, as they are and escaped in JSON."""


def named(at: int) -> str:
    return f"r{at:03}{CHARACTERS[-1 - at % len(CHARACTERS)]}"


def cut_up(sizes: list[int], limits: Limits, edges: Sequence[int]) -> tuple[list[Cut], list[list[dict[str, Any]]]]:
    """Cuts, and for each part its rows, when the drafts come in tables that end at `edges`."""
    rows = [(named(at), CHARACTERS[at % len(CHARACTERS)] * size) for at, size in enumerate(sizes)]
    cuts: list[Cut] = []
    parts: list[list[dict[str, Any]]] = []
    for piece in pieces([drafts(part) for part in cut_at(rows, edges)], MODEL, limits):
        assert piece.part == len(cuts), "a piece of a part that was closed, or of a later one"
        assert len(piece.lines) == piece.rows.num_rows
        parts += [[]] if piece.part == len(parts) else []
        for row, line in zip(piece.rows.to_pylist(), piece.lines, strict=True):
            parts[piece.part].append({**row, "line": line})
        if piece.cut is not None:
            cuts.append(piece.cut)
    return cuts, parts


@given(SIZES, LIMITS, st.lists(st.integers(0, 25), max_size=6))
def test_every_record_is_in_one_part_and_every_part_within_every_limit(
    sizes: list[int], limits: Limits, edges: list[int]
) -> None:
    cuts, parts = cut_up(sizes, limits, edges)
    assert [row["id"] for part in parts for row in part] == [named(at) for at in range(len(sizes))]
    assert [cut.part for cut in cuts] == list(range(len(parts)))
    for cut, part in zip(cuts, parts, strict=True):
        assert cut.requests == len(part) > 0
        assert cut.file_bytes == sum(len(row["line"]) for row in part)
        assert cut.tokens_max == sum(len(row["document"].encode()) for row in part)
        assert cut.requests <= limits.requests_per_batch
        assert cut.file_bytes <= limits.file_bytes
        # One text may have more tokens than the queue has room for; it is a batch of its own.
        assert not limits.tokens_per_batch or cut.tokens_max <= limits.tokens_per_batch or len(part) == 1


@given(SIZES, LIMITS, st.lists(st.integers(0, 25), max_size=6))
@example([2, 2, 2], Limits(tokens_per_batch=4), [])
def test_a_part_ends_only_where_the_next_record_would_exceed_the_limit_named(
    sizes: list[int], limits: Limits, edges: list[int]
) -> None:
    cuts, parts = cut_up(sizes, limits, edges)
    for cut, following in zip(cuts, parts[1:], strict=False):
        following_bytes, following_tokens = len(following[0]["line"]), len(following[0]["document"].encode())
        exceeded = {
            "requests_per_batch": cut.requests + 1 > limits.requests_per_batch,
            "file_bytes": cut.file_bytes + following_bytes > limits.file_bytes,
            "tokens_per_batch": 0 < limits.tokens_per_batch < cut.tokens_max + following_tokens,
        }
        assert exceeded[cut.limit]
    assert [cut.limit for cut in cuts[-1:]] in ([], ["end"])


@given(SIZES, LIMITS, st.lists(st.integers(0, 25), max_size=6), st.lists(st.integers(0, 25), max_size=6))
def test_how_the_drafts_arrive_never_shows(sizes: list[int], limits: Limits, one: list[int], other: list[int]) -> None:
    def files(edges: list[int]) -> tuple[list[Cut], list[bytes]]:
        cuts, parts = cut_up(sizes, limits, edges)
        return cuts, [b"".join(row["line"] for row in part) for part in parts]

    assert files(one) == files(other)


def test_lines_are_measured_wherever_their_rows_stand_in_a_table() -> None:
    rows = drafts([(named(at), CHARACTERS[at] * 3) for at in range(len(CHARACTERS))])
    for start in range(rows.num_rows):
        part = rows.slice(start, 3)
        lines = request_lines(part.column("id").to_pylist(), part.column("document").to_pylist(), MODEL)
        assert request_bytes(part, MODEL).tolist() == [len(line) for line in lines]


def test_a_text_that_certainly_has_too_many_tokens_is_refused_with_its_place() -> None:
    limits = Limits(tokens_per_input=2)
    most = 2 * BYTES_PER_TOKEN_MAX
    assert len(list(pieces([drafts([("a", "x" * most)])], MODEL, limits))) == 2
    with pytest.raises(InvalidInput) as caught:
        list(pieces([drafts([("a", "x"), ("b", "é" * (most // 2 + 1)), ("c", "x" * 999)])], MODEL, limits))
    assert str(caught.value) == (
        f"Record 'b' (f:2): its text of {most + 2} bytes exceeds the limit of 2 tokens. "
        "Split the text into passages, each a record of its own."
    )


def test_a_request_larger_than_a_file_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"Record 'a' \(f:1\): its text of 500 bytes exceeds an input file of 300 bytes"
    ):
        list(pieces([drafts([("a", "x" * 500)])], MODEL, Limits(file_bytes=300)))


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=20), max_size=4), st.booleans())
def test_a_request_is_one_line_that_says_what_is_embedded(texts: dict[str, str], send: bool) -> None:
    model = EmbeddingModel(name="m", dimensions=3, send_dimensions=send)
    lines = request_lines(texts.keys(), texts.values(), model)
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)
    extra = {"dimensions": 3} if send else {}
    assert [msgspec.json.decode(line) for line in lines] == [
        {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "m", "input": text, "encoding_format": "base64", **extra},
        }
        for name, text in texts.items()
    ]


def test_records_carry_claim_and_tries() -> None:
    batch = records_batch(drafts([("a", "x"), ("b", "y")]), seq=7, attempt=2, tries=3)
    assert batch.select(records_schema().names).schema.types == records_schema().types
    assert [(row["id"], row["seq"], row["attempt"], row["tries"], row["document"]) for row in batch.to_pylist()] == [
        ("a", 7, 2, 3, "x"),
        ("b", 7, 2, 3, "y"),
    ]
    assert records_batch(DRAFT_SCHEMA.empty_table(), seq=1, attempt=1, tries=1).num_rows == 0


# --- names ---------------------------------------------------------------------------------------------------------

ROOT = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
NAMING: dict[str, list[Any]] = {
    "root_id": [ROOT, ROOT.replace("6", "7", 1)],
    "kind": [KIND, Kind("notes", collection="other"), Kind("notes", database="other")],
    "seq": [1, 11],
    "part": [0, 1],
    "request_sha256": ["aa", "ab"],
    "records_sha256": ["bb", "bc"],
}


def test_a_batch_is_named_by_all_that_it_is() -> None:
    """Trace T1: also by its files, so that no two submitters write different ones under one name."""
    base = {name: values[0] for name, values in NAMING.items()}
    others = [{**base, name: value} for name, values in NAMING.items() for value in values[1:]]
    named = [batch_id(**fields) for fields in [base, *others]]
    assert len(set(named)) == len(named)
    assert batch_id(**base) == named[0]


# --- the ledger ----------------------------------------------------------------------------------------------------


def root(name: str, seq: int = 1) -> OpenRoot:
    return OpenRoot(
        batch_id=name,
        seq=seq,
        part=0,
        request_sha256="",
        records_sha256="",
        request_count=1,
        model="m",
        dimensions=3,
        submitted_at="2026-01-01T00:00:00Z",
    )


def row(name: str, status: Status, *retries: str) -> BatchRow:
    return BatchRow(batch_id=name, batch_type="X", status=status, retry_batch_ids=retries)


def test_the_first_submission_makes_the_ledger() -> None:
    head = next_head(None, KIND, execution_id="e1", roots=[root("b1")], closed=frozenset())
    assert (head.database, head.collection, head.seq) == ("notes", "notes", 1)
    assert ([one.batch_id for one in head.open], seq_of(head, "e1")) == (["b1"], 1)
    assert seq_of(head, "e2") is None
    assert seq_of(None, "e1") is None


def test_a_submission_of_nothing_new_is_remembered_under_the_number_there_is() -> None:
    """Trace T7: a submitter that is delivered again must find itself, whatever it claimed."""
    head = next_head(None, KIND, execution_id="e1", roots=[root("b1")], closed=frozenset())
    head = next_head(head, KIND, execution_id="e2", roots=[], closed=frozenset())
    assert (head.seq, seq_of(head, "e2")) == (1, 1)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8))
def test_the_ledger_numbers_submissions_and_drops_what_is_closed(steps: list[tuple[int, int]]) -> None:
    head, opened, seq = None, [], 0
    for number, (roots, closing) in enumerate(steps):
        seq += bool(roots)
        fresh = [root(f"b{number}-{part}", seq) for part in range(roots)]
        closed = frozenset(one.batch_id for one in opened[:closing])
        head = next_head(head, KIND, execution_id=f"e{number}", roots=fresh, closed=closed)
        opened = [*opened[closing:], *fresh]
        assert list(head.open) == opened
        assert head.seq == seq == seq_of(head, f"e{number}")


def test_the_ledger_remembers_a_bounded_number_of_submitters() -> None:
    head = next_head(None, KIND, execution_id="e0", roots=[root("b")], closed=frozenset())
    head = attrs.evolve(head, submitters=head.submitters * SUBMITTERS_KEPT)
    head = next_head(head, KIND, execution_id="last", roots=[], closed=frozenset())
    assert len(head.submitters) == SUBMITTERS_KEPT
    assert head.submitters[-1].execution_id == "last"


def test_what_others_wrote_into_the_ledger_stays() -> None:
    given_ = Head.load({"database": "notes", "collection": "notes", "seq": 3, "theirs": [1]}, "head")
    assert next_head(given_, KIND, execution_id="e", roots=[], closed=frozenset()).to_dict()["theirs"] == [1]


NAMES = [f"b{number}" for number in range(7)]


@given(
    st.lists(st.sampled_from(NAMES[:3]), unique=True),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(Status)),
    st.dictionaries(st.sampled_from(NAMES), st.sets(st.integers(1, 6), max_size=2)),
)
def test_a_root_is_closed_when_all_below_it_has_ended(
    roots: list[str], statuses: dict[str, Status], children: dict[str, set[int]]
) -> None:
    """Trace T5. A retry's number is greater than its parent's, so there is no circle."""
    retries = {
        name: tuple(NAMES[at] for at in sorted(children.get(name, ())) if at > NAMES.index(name)) for name in NAMES
    }
    rows = {name: row(name, status, *retries[name]) for name, status in statuses.items()}

    def all_below(name: str) -> set[str]:
        return {name}.union(*(all_below(child) for child in (retries[name] if name in rows else ())))

    head = Head(database="d", collection="c", seq=1, open=tuple(map(root, roots)))
    expected = {
        name for name in roots if all(below in rows and rows[below].status not in OPEN for below in all_below(name))
    }
    assert closed_roots(head, rows) == expected
    assert closed_roots(None, rows) == frozenset()


def test_a_long_chain_of_retries_is_no_trouble() -> None:
    """A month of refused capacity, retried every hour, costs no try."""
    names = [f"b{number}" for number in range(5_000)]
    rows = {name: row(name, Status.FAILED, following) for name, following in pairwise(names)}
    head = Head(database="d", collection="c", seq=1, open=(root("b0"),))
    assert closed_roots(head, rows) == frozenset()
    rows[names[-1]] = row(names[-1], Status.COMPLETED)
    assert closed_roots(head, rows) == {"b0"}


@pytest.mark.parametrize(("made_with", "fits"), [(("m", 3), True), (("m", 4), False), (("n", 3), False)])
def test_a_collection_keeps_its_model(made_with: tuple[str, int], fits: bool) -> None:
    if fits:
        check_collection(KIND, MODEL, made_with)
        return
    with pytest.raises(CollectionMismatch, match=rf"is made with {made_with[0]}, {made_with[1]} dimensions"):
        check_collection(KIND, MODEL, made_with)
