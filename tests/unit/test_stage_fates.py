"""The fate of every record, from any lines in any order, for any ending of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.lifecycle import CAPACITY_REASONS, Action, Status
from embedpipe.model import BatchRow, ProviderBatch, ProviderIssue, RequestCounts
from embedpipe.stages.conclude import (
    OPEN_MAX_S,
    REQUESTS_NOT_HALVED,
    TRIED_WHOLE,
    Conclusion,
    batch_faults,
    conclude,
    may_be_too_large,
    rejected_lines,
    retry_lines,
    was_alone,
)
from embedpipe.stages.fold import FREE, Cause, Fault, Fold, judge, settled
from embedpipe.stages.poll import ended_without_batch
from embedpipe.vectors import OutputLine
from embedpipe.wire import Rejected, Retry

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROW = BatchRow(batch_id="b1", batch_type="X", status=Status.PENDING, provider_batch_id="p1", seq=7, attempt=2)
VECTOR: Any = object()
"""The fold only asks whether there is one."""


def line(custom_id: str | None = "a", **fields: Any) -> OutputLine:
    return OutputLine(number=1, custom_id=custom_id, **fields)


def good(custom_id: str) -> OutputLine:
    return line(custom_id, vector=VECTOR, status_code=200)


def bad(custom_id: str, status_code: int = 500) -> OutputLine:
    return line(custom_id, status_code=status_code)


# --- one line ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "cause", "reason"),
    [
        ({"status_code": 400}, None, "http_400"),
        ({"status_code": 404}, None, "http_404"),
        ({"status_code": 401}, None, "http_401"),
        ({"status_code": 400, "error_code": "context_length_exceeded"}, None, "context_length_exceeded"),
        ({"status_code": 408}, Cause.RECORD, "http_408"),
        ({"status_code": 409}, Cause.RECORD, "http_409"),
        ({"status_code": 425}, Cause.RECORD, "http_425"),
        ({"status_code": 400, "error_code": "batch_expired"}, Cause.RECORD, "batch_expired"),
        ({"status_code": 0}, Cause.RECORD, "http_0"),
        ({"status_code": 500}, Cause.RECORD, "http_500"),
        ({"status_code": 599, "error_code": "server_error"}, Cause.RECORD, "server_error"),
        ({"status_code": 200, "problem": "wrong_dimensions"}, Cause.RECORD, "wrong_dimensions"),
        ({"status_code": 200, "problem": "not_finite"}, Cause.RECORD, "not_finite"),
        ({"error_code": "batch_expired"}, Cause.RECORD, "batch_expired"),
        ({"error_code": "batch_cancelled"}, Cause.RECORD, "batch_cancelled"),
        ({"error_code": "request_timeout"}, Cause.RECORD, "request_timeout"),
        ({"error_code": "unheard_of"}, Cause.RECORD, "unheard_of"),
        ({"problem": "empty_response"}, Cause.RECORD, "empty_response"),
        ({}, Cause.RECORD, "empty_response"),
        ({"status_code": 429}, Cause.CAPACITY, "http_429"),
        ({"status_code": 429, "error_code": "rate_limit_exceeded"}, Cause.CAPACITY, "rate_limit_exceeded"),
        ({"status_code": 400, "error_code": "insufficient_quota"}, Cause.CAPACITY, "insufficient_quota"),
    ],
)
def test_a_line_without_a_vector_is_judged(fields: dict[str, Any], cause: Cause | None, reason: str) -> None:
    assert judge(line(**fields, error_message="why")) == Fault(cause, reason, "why")


# --- many lines ----------------------------------------------------------------------------------------------------

IDS = ["d", "b", "é", "a", "\U0001f600"]  # not in order: the input file is not sorted here
LINES = st.lists(
    st.builds(
        lambda name, kind: {"good": good, "bad": bad, "final": lambda one: bad(one, 400)}[kind](name),
        st.sampled_from([*IDS, "nobody"]),
        st.sampled_from(["good", "bad", "final"]),
    )
    | st.just(line(None, problem="unparsable")),
    max_size=14,
)


def folded(ids: Sequence[str] | None, lines: Sequence[OutputLine]) -> tuple[Fold, list[str]]:
    """The fold, and the custom_ids of the vectors it kept, in order."""
    fold = Fold(ids)
    return fold, [one.custom_id or "" for one in lines if fold.take(one)]


@given(LINES)
def test_the_first_usable_line_of_a_record_wins(lines: list[OutputLine]) -> None:
    fold, kept = folded(IDS, lines)
    usable = list(dict.fromkeys(one.custom_id for one in lines if one.vector is not None and one.custom_id in IDS))
    assert kept == usable
    assert {name: fold.slots[at] for at, name in enumerate(IDS)} == {
        name: usable.index(name) if name in usable else -1 for name in IDS
    }
    assert fold.vectors == len(usable)
    first_bad = {one.custom_id: one for one in reversed(lines) if one.vector is None}
    assert {IDS[at]: fault for at, fault in fold.faults.items()} == {
        name: judge(first_bad[name]) for name in IDS if name in first_bad and name not in usable
    }


@given(LINES)
def test_every_odd_line_is_counted(lines: list[OutputLine]) -> None:
    fold, _ = folded(IDS, lines)
    named = [one.custom_id for one in lines if one.custom_id is not None]
    assert fold.lines == len(named)
    assert fold.unreadable == len(lines) - len(named)
    assert fold.unknown == named.count("nobody")
    assert fold.doubled == len(named) - fold.unknown - len(set(named) & set(IDS))
    assert fold.accounted == (set(IDS) <= set(named))
    assert [note.split()[0] for note in fold.notes()] == [
        str(count) for count in (fold.unknown, fold.doubled, fold.unreadable) if count
    ]


@given(LINES, st.randoms(use_true_random=False))
def test_the_order_of_lines_decides_no_fate(lines: list[OutputLine], random: Any) -> None:
    shuffled = list(lines)
    random.shuffle(shuffled)
    one, other = folded(IDS, lines)[0], folded(IDS, shuffled)[0]
    assert [slot >= 0 for slot in one.slots] == [slot >= 0 for slot in other.slots]
    assert one.faults.keys() == other.faults.keys()
    assert (one.lines, one.doubled, one.unknown) == (other.lines, other.doubled, other.unknown)


@given(LINES)
def test_without_record_files_whatever_comes_is_a_record(lines: list[OutputLine]) -> None:
    """A batch of a deployment that keeps none."""
    fold, kept = folded(None, lines)
    assert fold.ids == list(dict.fromkeys(one.custom_id for one in lines if one.custom_id is not None))
    assert len(fold.slots) == len(fold.ids)
    assert set(kept) <= set(fold.ids)
    assert (fold.unknown, fold.accounted) == (0, False)


@pytest.mark.parametrize(
    ("counts", "lines", "absent", "expected"),
    [
        ((0, 0), [], True, True),
        ((2, 0), [], True, False),  # trace T16: the output is still null
        ((2, 1), ["a"], True, False),
        ((2, 0), ["a"], False, False),  # the counts are ahead
        ((1, 0), ["a"], True, False),  # a line of the error file is not the one that was counted
        ((1, 1), ["a", "b"], False, True),
        ((1, 1), ["a", "nobody"], False, True),  # as many lines as counted
        ((1, 1), ["a", "a"], False, False),  # half of the file, one line of it twice
        ((9, 9), ["a", "b", "c"], False, True),  # each record has its line: nothing more can come
        ((9, 9), ["a", "b", "c"], True, True),
        ((0, 3), ["a"], True, False),
    ],
)
def test_while_lines_are_fewer_than_the_counts_more_may_come(
    counts: tuple[int, int], lines: list[str], absent: bool, expected: bool
) -> None:
    fold, _ = folded(["a", "b", "c"], [bad(name) for name in lines])
    batch = ProviderBatch(id="p", status="completed", counts=RequestCounts(completed=counts[0], failed=counts[1]))
    assert settled(batch, fold, output_absent=absent) is expected


# --- the whole batch -----------------------------------------------------------------------------------------------

ISSUES = st.lists(
    st.builds(
        ProviderIssue,
        code=st.sampled_from(["bad_line", "token_limit_exceeded", "mystery"]),
        line=st.none() | st.integers(-1, 7),
    ),
    max_size=3,
).map(tuple)
BATCHES = st.builds(
    ProviderBatch,
    id=st.just("p1"),
    status=st.sampled_from(["completed", "expired", "cancelled", "failed", "create_lost", "lost"]),
    issues=ISSUES,
)


def concluded(
    batch: ProviderBatch, lines: Sequence[OutputLine], tries: Sequence[int] | None, ids: Sequence[str] | None = IDS
) -> tuple[Conclusion, Fold]:
    fold, _ = folded(ids, lines)
    return conclude(batch, fold, row=ROW, tries=tries, attempts_max=3), fold


TRIES = st.lists(st.integers(1, 3), min_size=len(IDS), max_size=len(IDS))


@given(BATCHES, LINES, TRIES)
def test_vectors_rejected_and_retry_are_the_records(
    batch: ProviderBatch, lines: list[OutputLine], tries: list[int]
) -> None:
    """The law of a delta: each record is in exactly one of the three, and each list is sorted by id."""
    found, fold = concluded(batch, lines, tries)
    vectors = [IDS[at] for at in found.order]
    parts = [vectors, [entry.id for entry in found.rejected], [entry.id for entry in found.retry]]
    assert sorted(name for part in parts for name in part) == sorted(IDS)
    assert all(part == sorted(part, key=str.encode) for part in parts)
    assert all(fold.slots[at] >= 0 for at in found.order)
    assert len(vectors) == fold.vectors


@given(BATCHES, LINES, TRIES)
def test_a_retry_costs_a_try_only_where_the_record_is_at_fault(
    batch: ProviderBatch, lines: list[OutputLine], tries: list[int]
) -> None:
    found, _ = concluded(batch, lines, tries)
    before = dict(zip(IDS, tries, strict=True))
    for entry in found.retry:
        assert entry.tries == before[entry.id] + (entry.cause not in FREE)
        assert entry.tries <= 3
        assert entry.part == 0 or (batch.status, entry.cause) == ("failed", "batch")
    for entry in found.rejected:
        assert (entry.seq, entry.attempt, entry.tries) == (7, 2, before[entry.id])
        if entry.reason == "attempts_exhausted":
            assert before[entry.id] == 3
            assert entry.message.startswith("last: ")


@given(BATCHES, LINES, TRIES)
def test_the_action_says_what_there_is_to_do(batch: ProviderBatch, lines: list[OutputLine], tries: list[int]) -> None:
    found, _ = concluded(batch, lines, tries)
    if found.action is Action.PROCESS_RESULTS:
        assert (batch.status, found.retry) == ("completed", ())
    else:
        assert found.action is (Action.PROCESS_PARTIAL if found.order else Action.HANDLE_FAILURE)
        assert found.retry or batch.status != "completed"
    assert found.status == batch.status


@pytest.mark.parametrize(
    ("status", "lines", "action"),
    [
        ("completed", [good(name) for name in IDS], Action.PROCESS_RESULTS),
        ("completed", [bad(name, 400) for name in IDS], Action.PROCESS_RESULTS),
        ("completed", [good("a")], Action.PROCESS_PARTIAL),
        ("completed", [], Action.HANDLE_FAILURE),
        ("expired", [good(name) for name in IDS], Action.PROCESS_PARTIAL),
        ("expired", [bad(name, 400) for name in IDS], Action.HANDLE_FAILURE),
        ("create_lost", [], Action.HANDLE_FAILURE),
    ],
)
def test_each_action(status: str, lines: list[OutputLine], action: Action) -> None:
    assert concluded(ProviderBatch(id="p", status=status), lines, [1] * len(IDS))[0].action is action


@given(BATCHES, LINES)
def test_without_record_files_nothing_is_submitted_again(batch: ProviderBatch, lines: list[OutputLine]) -> None:
    found, fold = concluded(batch, lines, None, None)
    assert found.retry == ()
    assert sorted(entry.id for entry in found.rejected) == sorted(
        name for at, name in enumerate(fold.ids) if fold.slots[at] < 0
    )
    assert not {entry.reason for entry in found.rejected} & {"attempts_exhausted"}
    assert {entry.tries for entry in found.rejected} <= {1}


@pytest.mark.parametrize(
    ("status", "cause", "reason", "tries"),
    [
        ("completed", "record", "missing_line", 2),
        ("expired", "record", "batch_expired", 2),
        ("cancelled", "record", "batch_cancelled", 2),
        ("lost", "record", "lost", 2),
        ("create_lost", "ambiguous", "create_lost", 1),
        ("failed", "batch", "batch_failed", 1),
    ],
)
def test_a_record_without_a_line_goes_as_its_batch_did(status: str, cause: str, reason: str, tries: int) -> None:
    found, _ = concluded(ended_without_batch(status), [good("a")], [1] * len(IDS))
    assert [IDS[at] for at in found.order] == ["a"]
    assert found.rejected == ()
    assert {(entry.cause, entry.reason, entry.tries) for entry in found.retry} == {(cause, reason, tries)}


def test_an_exhausted_record_says_what_happened_last() -> None:
    found, _ = concluded(
        ProviderBatch(id="p", status="completed"), [line("a", status_code=503, error_message="busy")], [3] * 5
    )
    assert [(entry.reason, entry.message) for entry in found.rejected][:1] == [
        ("attempts_exhausted", "last: http_503 busy")
    ]
    assert len(found.rejected) == 5


def test_capacity_exhausts_nobody() -> None:
    found, _ = concluded(ProviderBatch(id="p", status="completed"), [bad(name, 429) for name in IDS], [3] * 5)
    assert (found.rejected, {entry.tries for entry in found.retry}) == ((), {3})


# --- a batch that failed as a whole --------------------------------------------------------------------------------


@given(ISSUES, st.integers(1, 7), st.booleans())
def test_a_failed_batch_gets_smaller_each_time(issues: tuple[ProviderIssue, ...], count: int, too_large: bool) -> None:
    """Trace T19: one bad line is cornered, in a number of batches that the size bounds."""
    faults = batch_faults(ProviderBatch(id="p", status="failed", issues=issues), count, too_large=too_large)
    assert faults.keys() == set(range(count))
    again = [part for fault, part in faults.values() if fault.cause is not None]
    rejected = [at for at, (fault, _) in faults.items() if fault.cause is None]
    named = {issue.line - 1 for issue in issues if issue.line is not None and 1 <= issue.line <= count}
    if any(issue.code in CAPACITY_REASONS for issue in issues):
        assert {fault.cause for fault, _ in faults.values()} == {Cause.CAPACITY}
        assert sorted(again) == ([0] * ((count + 1) // 2) + [1] * (count // 2) if too_large else [0] * count)
    elif named:
        assert set(rejected) == named
        assert set(again) <= {0}
    elif count == 1:
        assert rejected == [0]
    else:
        assert rejected == []
        assert sorted(again.count(part) for part in (0, 1)) == [count // 2, (count + 1) // 2]
        assert all(fault.cause is Cause.BATCH for fault, _ in faults.values())


def test_the_first_issue_of_a_line_gives_its_reason() -> None:
    issues = tuple(ProviderIssue(code=code, message=code.upper(), line=2) for code in ("first", "second"))
    faults = batch_faults(ProviderBatch(id="p", status="failed", issues=issues), 3)
    assert faults[1][0] == Fault(None, "first", "FIRST")
    assert faults[0][0] == faults[2][0] == Fault(Cause.BATCH, "first", "FIRST")


@pytest.mark.parametrize("line", [None, 1])
def test_an_issue_without_a_code_is_still_a_reason(line: int | None) -> None:
    issues = (ProviderIssue(code="", message="odd", line=line),)
    faults = batch_faults(ProviderBatch(id="p", status="failed", issues=issues), 2)
    assert {fault.reason for fault, _ in faults.values()} == {"batch_failed"}


def test_any_one_bad_record_is_found() -> None:
    """Halving until the bad one is alone; the others are embedded, and pay no try."""
    for bad_one in range(13):
        waiting, embedded, batches = [list(range(13))], set(), 0
        while waiting:
            ids = waiting.pop()
            batches += 1
            if bad_one not in ids:
                embedded |= set(ids)
                continue
            faults = batch_faults(ProviderBatch(id="p", status="failed"), len(ids))
            for part in (0, 1):
                half = [ids[at] for at, (fault, to) in faults.items() if fault.cause is Cause.BATCH and to == part]
                waiting += [half] if half else []
        assert embedded == set(range(13)) - {bad_one}
        assert batches <= 2 * 4 + 1


# --- a batch above its account's limit -----------------------------------------------------------------------------

SIZE = ProviderIssue(code="token_limit_exceeded")
REFUSED = ProviderBatch(id="p", status="failed", issues=(SIZE,), created_at=NOW, ended_at=NOW + timedelta(minutes=10))


@pytest.mark.parametrize(
    ("batch", "attempt", "requests", "suspected"),
    [
        (REFUSED, TRIED_WHOLE, REQUESTS_NOT_HALVED + 1, True),
        (REFUSED, TRIED_WHOLE - 1, REQUESTS_NOT_HALVED + 1, False),
        (REFUSED, TRIED_WHOLE, REQUESTS_NOT_HALVED, False),
        (attrs.evolve(REFUSED, issues=(ProviderIssue(code="insufficient_quota"),)), TRIED_WHOLE, 1_000, False),
        (attrs.evolve(REFUSED, status="expired"), TRIED_WHOLE, 1_000, False),
    ],
)
def test_a_batch_is_suspected_after_its_rounds(
    batch: ProviderBatch, attempt: int, requests: int, suspected: bool
) -> None:
    row = attrs.evolve(ROW, attempt=attempt, request_count=requests)
    assert may_be_too_large(batch, row) is suspected


def other(begun_min: float, ended_min: float | None, **fields: Any) -> ProviderBatch:
    times = [None if at is None else NOW + timedelta(minutes=at) for at in (begun_min, ended_min)]
    return ProviderBatch(**{"id": "o", "status": "completed", "created_at": times[0], "ended_at": times[1]} | fields)


@pytest.mark.parametrize(
    ("others", "alone"),
    [
        ([], True),
        ([REFUSED], True),
        ([other(-60, -1)], True),
        ([other(11, 20)], True),
        ([other(11, None), REFUSED, other(-60, -1)], True),
        ([other(-60, 0)], False),
        ([other(-60, None)], False),
        ([other(10, 30)], False),
        ([other(2, 3)], False),
        ([other(11, None), other(-60, 5)], False),
        ([other(-60, 5, status="failed", issues=(SIZE,))], True),
        ([other(0, None, created_at=None)], False),
        ([other(-OPEN_MAX_S / 60 - 1, None)], True),
    ],
)
def test_a_batch_is_too_large_only_where_no_other_took_room(others: list[ProviderBatch], alone: bool) -> None:
    assert was_alone(REFUSED, others) is alone


def test_a_batch_without_times_is_not_known_to_be_alone() -> None:
    assert not was_alone(attrs.evolve(REFUSED, created_at=None), [])


# --- what is written -----------------------------------------------------------------------------------------------


@given(BATCHES, LINES, TRIES)
def test_the_files_of_a_delta_are_read_as_they_were_meant(
    batch: ProviderBatch, lines: list[OutputLine], tries: list[int]
) -> None:
    found, _ = concluded(batch, lines, tries)
    assert tuple(Retry.load(one, "retry") for one in retry_lines(found.retry).splitlines()) == found.retry
    assert (
        tuple(Rejected.load(one, "rejected") for one in rejected_lines(found.rejected).splitlines()) == found.rejected
    )
