"""How a batch ends, who takes what is left over, and what is said about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.lifecycle import OPEN, TERMINAL_ACTIONS, TRANSITIONS, Action, Event, Status
from embedpipe.limits import Policy
from embedpipe.model import BatchRow, Claim
from embedpipe.stages.fold import Cause
from embedpipe.stages.mark_complete import (
    before_proof,
    counts,
    end_changes,
    ended_mark,
    ending,
    retry_batch_id,
    retry_batches,
    retry_row,
    skip_reason,
)
from embedpipe.wire import Mark, Result, Retry

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAMES = [f"b{number}" for number in range(6)]


def row(name: str = "b1", status: Status = Status.PENDING, **fields: Any) -> BatchRow:
    return BatchRow(**{"batch_id": name, "batch_type": "X_EMBEDDING", "status": status, "seq": 7, **fields})


def result(name: str = "b1", **fields: Any) -> Result:
    return Result(**{"batch_id": name, "action": Action.PROCESS_RESULTS, "batch_status": "completed", **fields})


# --- what needs a proof --------------------------------------------------------------------------------------------

RESULTS = st.lists(
    st.builds(
        Result,
        batch_id=st.sampled_from(NAMES),
        action=st.sampled_from(Action),
        batch_status=st.sampled_from(["completed", "expired", "failed", "create_lost", None]),
        embedding_count=st.integers(0, 1),
        reason=st.sampled_from([None, "why"]),
    ),
    max_size=9,
)


@given(RESULTS, st.dictionaries(st.sampled_from(NAMES), st.sampled_from(Status)))
def test_each_batch_is_marked_or_a_candidate_once(results: list[Result], statuses: dict[str, Status]) -> None:
    rows = {name: row(name, status) for name, status in statuses.items()}
    marks, candidates = before_proof(results, rows, "e")
    first: dict[str, Result] = {}
    for one in results:
        first.setdefault(one.batch_id, one)
    assert sorted([mark.batch_id for mark in marks] + [one.batch_id for one in candidates]) == sorted(first)
    for mark in marks:
        assert mark.outcome == expected(first[mark.batch_id], rows.get(mark.batch_id))
        assert mark.outcome == "already_complete" or mark.reason
        assert mark.status == statuses.get(mark.batch_id)
    for one in candidates:
        assert one is first[one.batch_id]
        assert expected(one, rows[one.batch_id]) == "candidate"
        assert (rows[one.batch_id].status, ending(one)) in TRANSITIONS


def expected(one: Result, found: BatchRow | None) -> str:
    if found is None:
        return "missing"
    if found.status not in OPEN:
        return "already_complete"
    if one.action not in TERMINAL_ACTIONS:
        return "skipped"
    lost = one.batch_status in ("failed", "create_lost") and not one.embedding_count
    endable = found.status is Status.PENDING or (found.status is Status.CREATING and lost)
    return "candidate" if endable else "skipped"


def test_a_skip_says_what_stands_in_the_way() -> None:
    assert skip_reason(result()) is None
    assert skip_reason(result(action=Action.WAIT, reason="running")) == "wait: running"
    assert skip_reason(result(action=Action.UNREADABLE_RESULT, reason="it is torn")) == "unreadable_result: it is torn"
    assert skip_reason(result(action=Action.WAIT)) == "wait"


def test_an_ended_batch_still_names_its_retries() -> None:
    marks, _ = before_proof([result()], {"b1": row(status=Status.EXPIRED, retry_batch_ids=("r1",))}, "e")
    assert marks == [Mark(batch_id="b1", outcome="already_complete", status="EXPIRED", retry_batch_ids=("r1",))]


def test_who_ended_a_batch_says_so_however_often_it_is_asked() -> None:
    ended = row(status=Status.FAILED, retry_batch_ids=("r1",), completed_by="mine", reason="why")
    mark = ended_mark(ended, "mine")
    assert mark == Mark(batch_id="b1", outcome="marked", status="FAILED", reason="why", retry_batch_ids=("r1",))
    assert ended_mark(ended, "other").outcome == "already_complete"
    for execution_id in ("mine", "other"):
        assert before_proof([result()], {"b1": ended}, execution_id) == ([ended_mark(ended, execution_id)], [])


# --- how it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "vectors", "event"),
    [
        ("completed", 0, Event.PROVEN),
        ("completed", 5, Event.PROVEN),
        ("expired", 5, Event.PROVEN),
        ("cancelled", 5, Event.PROVEN),
        ("failed", 5, Event.PROVEN),
        ("expired", 0, Event.ENDED_EXPIRED),
        ("cancelled", 0, Event.ENDED_CANCELLED),
        ("failed", 0, Event.ENDED_FAILED),
        ("create_lost", 0, Event.ENDED_FAILED),
        ("lost", 0, Event.ENDED_FAILED),
        (None, 0, Event.PROVEN),
        ("unheard_of", 0, Event.PROVEN),  # proven is proven, whatever the provider calls it
    ],
)
def test_the_ending_is_that_of_the_table(status: str | None, vectors: int, event: Event) -> None:
    assert ending(result(batch_status=status, embedding_count=vectors)) is event


def test_a_row_ends_naming_its_proof_and_its_retries() -> None:
    entries = [retry("a", 0), retry("b", 1)]
    retries = retry_batches(row(), entries)
    changes = end_changes(row(), result(batch_status="expired"), retry=retries, execution_id="e", version="6-x")
    assert changes == {
        "status": Status.EXPIRED,
        "provider_status": "expired",
        "retry_batch_ids": (retry_batch_id("b1", 2, 0), retry_batch_id("b1", 2, 1)),
        "completed_by": "e",
        "snapshot_version": "6-x",
        "reason": None,
    }


# --- retries -------------------------------------------------------------------------------------------------------


def retry(name: str, part: int, cause: str = Cause.RECORD) -> Retry:
    return Retry(id=name, part=part, tries=2, cause=cause, reason="http_500")


RETRIES = st.lists(
    st.builds(retry, st.sampled_from("abcdé\uffff\U0001f600"), st.integers(0, 2), st.sampled_from(Cause)),
    unique_by=lambda entry: entry.id,
)


@given(RETRIES, st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_record_to_retry_is_in_one_batch_of_the_next_attempt(
    entries: list[Retry], attempt: int, random: Any
) -> None:
    """Trace T9: halves of a batch have a claim of their own, and whoever decides names them alike."""
    parent = row(attempt=attempt)
    batches = retry_batches(parent, entries)
    assert sorted((entry.id, batch.part) for batch in batches for entry in batch.entries) == sorted(
        (entry.id, entry.part) for entry in entries
    )
    assert {batch.attempt for batch in batches} <= {attempt + 1}
    assert len({batch.batch_id for batch in batches}) == len(batches) == len({entry.part for entry in entries})
    assert [batch.part for batch in batches] == sorted(batch.part for batch in batches)
    for batch in batches:
        assert [entry.id for entry in batch.entries] == sorted((entry.id for entry in batch.entries), key=str.encode)
        assert batch.waits_for_capacity == any(entry.cause == "capacity" for entry in batch.entries)
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert retry_batches(parent, shuffled) == batches


def test_a_retrys_name_is_that_of_its_parent_attempt_and_part() -> None:
    names = {retry_batch_id(*fields) for fields in [("p", 2, 0), ("q", 2, 0), ("p", 3, 0), ("p", 2, 1), ("p", 21, 0)]}
    assert len(names) == 5
    assert retry_batch_id("p", 2, 0) == "fdceec07-c6cd-51b6-8941-283c96133c8c"  # stored data rests on it


def test_a_retrys_row_goes_on_where_its_parent_was() -> None:
    parent = row(attempt=2, model="m", dimensions=3, database="d", collection="c", provider_batch_id="p1")
    (batch,) = retry_batches(parent, [retry("a", 0), retry("b", 0)])
    made = retry_row(parent, batch, request_sha256="aa", records_sha256="bb", now=NOW, policy=Policy())
    assert (made.batch_id, made.parent_batch_id, made.status) == (batch.batch_id, "b1", Status.INTENT)
    assert (made.claim, made.request_count) == (Claim(seq=7, attempt=3), 2)
    assert (made.model, made.dimensions, made.database, made.collection) == ("m", 3, "d", "c")
    assert (made.request_sha256, made.records_sha256, made.submitted_at) == ("aa", "bb", NOW)
    assert (made.provider_batch_id, made.input_file_id, made.not_before) == (None, None, None)
    assert made.batch_type == parent.batch_type


@pytest.mark.parametrize(
    ("attempt", "wait_s"), [(1, 60), (2, 120), (3, 240), (6, 1_920), (7, 3_600), (8, 3_600), (5_000, 3_600)]
)
def test_capacity_is_waited_for_longer_each_time_up_to_an_hour(attempt: int, wait_s: float) -> None:
    parent = row(attempt=attempt)
    (batch,) = retry_batches(parent, [retry("a", 0), retry("b", 0, Cause.CAPACITY)])
    made = retry_row(parent, batch, request_sha256="", records_sha256="", now=NOW, policy=Policy(capacity_wait_s=60))
    assert made.not_before == NOW + timedelta(seconds=wait_s)


# --- counts --------------------------------------------------------------------------------------------------------


@given(RESULTS, st.lists(st.sampled_from(["marked", "already_complete", "skipped", "missing"]), max_size=9))
def test_the_counts_add_up(results: list[Result], outcomes: list[str]) -> None:
    marks = [Mark(batch_id=f"m{at}", outcome=outcome) for at, outcome in enumerate(outcomes)]
    found = counts(marks, results, key="k", bucket="b")
    assert found.extracted == len(marks)
    assert found.batches_marked + found.already_complete + found.skipped + found.missing == found.extracted
    assert found.eligible == len({one.batch_id for one in results if one.action in TERMINAL_ACTIONS})
    assert (found.marked_s3_key, found.marked_s3_bucket) == ("k", "b")
    assert found.batches_marked == outcomes.count("marked")
    assert found.missing == outcomes.count("missing")
