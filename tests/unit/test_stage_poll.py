"""What a register says of a batch, and what may take its place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.lifecycle import PROVIDER_PHASES, TERMINAL_ACTIONS, Action, Phase, Status
from embedpipe.limits import Policy
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.stages.poll import (
    WaitReason,
    look,
    may_replace,
    overdue,
    search_overdue,
    unknown_reason,
    wait_result,
    waiting_since,
)
from embedpipe.wire import Result, parse_time

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROW = BatchRow(batch_id="b1", batch_type="X", status=Status.PENDING, provider_batch_id="p1", seq=7, attempt=2)
# --- status --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [*PROVIDER_PHASES, "unheard_of", ""])
def test_only_an_ended_batch_is_read(status: str) -> None:
    phase = PROVIDER_PHASES.get(status)
    expected = {Phase.RUNNING: WaitReason.RUNNING, Phase.ENDED: None, None: WaitReason.UNKNOWN_STATUS}[phase]
    assert look(ProviderBatch(id="p", status=status)) is expected


def test_a_wait_began_when_its_reason_did() -> None:
    earlier = NOW - timedelta(hours=5)
    register = wait_result(ROW, WaitReason.SETTLING, status="completed", since=earlier, execution_id="e")
    assert waiting_since(register, WaitReason.SETTLING, NOW) == earlier
    assert waiting_since(register, WaitReason.NOT_FOUND, NOW) == NOW
    assert waiting_since(None, WaitReason.SETTLING, NOW) == NOW
    assert waiting_since(register, WaitReason.SETTLING, earlier - timedelta(days=9)) == earlier - timedelta(days=9)
    assert waiting_since(attrs.evolve(register, since="yesterday"), WaitReason.SETTLING, NOW) == NOW
    assert waiting_since(attrs.evolve(register, since=None), WaitReason.SETTLING, NOW) == NOW
    assert waiting_since(attrs.evolve(register, action=Action.PROCESS_RESULTS), WaitReason.SETTLING, NOW) == NOW


def test_a_wait_names_itself() -> None:
    row = attrs.evolve(ROW, database="words", collection="receipt_words")
    result = wait_result(row, WaitReason.RUNNING, status="in_progress", since=NOW, execution_id="e")
    assert (result.database, result.collection, result.execution_id) == ("words", "receipt_words", "e")
    assert (result.batch_id, result.openai_batch_id, result.batch_status) == ("b1", "p1", "in_progress")
    assert (result.action, result.reason, result.embedding_count) == (Action.WAIT, "running", 0)
    assert parse_time(result.since or "") == NOW
    assert Result.load(result.dump(), "r") == result


@pytest.mark.parametrize(("waited_s", "over"), [(0, False), (9.999, False), (10, True), (11, True)])
def test_a_limit_is_reached_when_it_has_passed(waited_s: float, over: bool) -> None:
    assert overdue(NOW - timedelta(seconds=waited_s), NOW, 10) is over
    assert not overdue(NOW - timedelta(seconds=waited_s), NOW, 1e300)


def waiting(reason: WaitReason, waited_s: float) -> Result:
    return wait_result(ROW, reason, status="", since=NOW - timedelta(seconds=waited_s), execution_id="e")


@pytest.mark.parametrize(
    ("times", "register", "over"),
    [
        ({"creating_at": NOW - timedelta(seconds=3_599)}, None, False),
        ({"creating_at": NOW - timedelta(seconds=3_600)}, None, True),
        # A time that can be believed decides alone, whatever the register says of an earlier try.
        ({"creating_at": NOW}, waiting(WaitReason.CREATING, 9_999), False),
        ({"creating_at": NOW}, waiting(WaitReason.NOT_FOUND, 9_999), False),
        ({"submitted_at": NOW - timedelta(seconds=3_600)}, None, True),
        # Without one, the register decides: what was searched for before was overdue.
        ({}, None, False),
        ({}, waiting(WaitReason.CREATING, 3_599), False),
        ({}, waiting(WaitReason.CREATING, 3_600), True),
        ({"creating_at": NOW + timedelta(seconds=1)}, waiting(WaitReason.CREATING, 3_599), False),
        ({"creating_at": NOW + timedelta(days=999)}, waiting(WaitReason.CREATING, 3_600), True),
        ({"creating_at": NOW + timedelta(days=999)}, waiting(WaitReason.NOT_FOUND, 0), True),
        ({"creating_at": NOW + timedelta(days=999)}, waiting(WaitReason.UNAUTHORIZED, 0), True),
        # Also where an older time is there: it is not the time of the create.
        ({"creating_at": NOW + timedelta(days=999), "submitted_at": NOW - timedelta(days=1)}, None, False),
    ],
)
def test_a_create_is_searched_for_its_time(times: dict[str, datetime], register: Result | None, over: bool) -> None:
    assert search_overdue(attrs.evolve(ROW, **times), register, NOW, Policy(ambiguous_after_s=3_600)) is over


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ({}, WaitReason.NOT_FOUND),
        ({"creating_at": NOW}, WaitReason.NOT_YET_FOUND),
        ({"creating_at": NOW - timedelta(seconds=299)}, WaitReason.NOT_YET_FOUND),
        ({"creating_at": NOW - timedelta(seconds=300)}, WaitReason.NOT_FOUND),
        ({"creating_at": NOW + timedelta(seconds=299)}, WaitReason.NOT_YET_FOUND),  # clocks differ a little
        ({"creating_at": NOW + timedelta(seconds=300)}, WaitReason.NOT_FOUND),
        ({"submitted_at": NOW}, WaitReason.NOT_YET_FOUND),
        ({"submitted_at": NOW, "creating_at": NOW - timedelta(days=1)}, WaitReason.NOT_FOUND),
    ],
)
def test_a_new_batch_may_not_be_shown_yet(times: dict[str, datetime], reason: WaitReason) -> None:
    assert unknown_reason(attrs.evolve(ROW, **times), NOW, Policy()) is reason


RESULTS = st.builds(
    Result,
    batch_id=st.just("b1"),
    action=st.sampled_from([action for action in Action if action is not Action.UNREADABLE_RESULT]),
    retry_sha256=st.sampled_from([None, "x", "y"]),
)


@given(st.none() | RESULTS, RESULTS, st.booleans())
def test_a_register_only_moves_forward(stored: Result | None, proposed: Result, damaged: bool) -> None:
    """Trace T12. A terminal result is revised for a damaged delta alone, and with the same retry set."""
    allowed = may_replace(stored, proposed, damaged=damaged)
    if stored is None or stored.action is Action.WAIT:
        assert allowed
    else:
        same_retry = stored.retry_sha256 in (None, proposed.retry_sha256)  # the seed's results name none
        assert allowed == (damaged and same_retry and proposed.action in TERMINAL_ACTIONS)


def test_what_can_not_be_read_is_never_a_register() -> None:
    unreadable = Result(batch_id="b1", action=Action.UNREADABLE_RESULT)
    assert not may_replace(None, unreadable)
    assert not may_replace(Result(batch_id="b1", action=Action.WAIT), unreadable)
