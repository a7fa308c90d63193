"""The row of a ledger entry, and what each answer of the provider changes: always a step the lifecycle has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.errors import InvalidInput
from embedpipe.layout import SEED
from embedpipe.lifecycle import TRANSITIONS, Status
from embedpipe.limits import PAUSE_MAX_S, Limits, Policy
from embedpipe.model import WORD, BatchRow, Claim, Record
from embedpipe.stages.creation import (
    check_tokens,
    claim_changes,
    created_changes,
    held_back,
    may_exceed_tokens,
    next_try,
    refused_changes,
    row_of,
)
from embedpipe.wire import OpenRoot, changes_to_item, item_to_row, row_to_item

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROOT = OpenRoot(
    batch_id="b1",
    seq=7,
    part=3,
    request_sha256="aa",
    records_sha256="bb",
    request_count=50,
    model="m",
    dimensions=3,
    submitted_at="2026-01-02T03:04:05Z",
)


def test_the_row_of_a_ledger_entry_says_all_that_the_entry_says() -> None:
    row = row_of(ROOT, WORD)
    assert (row.status, row.claim, row.submitted_at) == (Status.INTENT, Claim(seq=7, attempt=1), NOW)
    assert (row.request_sha256, row.records_sha256, row.request_count) == ("aa", "bb", 50)
    assert (row.model, row.dimensions, row.attempt) == ("m", 3, 1)
    assert row.serves(WORD)
    assert (row.database, row.collection, row.provider_batch_id, row.revision) == ("words", "receipt_words", None, 0)
    assert row_of(ROOT, WORD) == row  # whoever finishes the entry puts the same row


def test_the_way_to_the_provider_and_back() -> None:
    intent = attrs.evolve(row_of(ROOT, WORD), input_file_id="file-1", reason="quota", not_before=NOW)
    creating = attrs.evolve(intent, **claim_changes(NOW))
    assert (creating.status, creating.creating_at) == (Status.CREATING, NOW)
    pending = attrs.evolve(creating, **created_changes("p1", "validating"))
    assert (pending.status, pending.provider_batch_id, pending.provider_status) == (Status.PENDING, "p1", "validating")
    assert (pending.reason, pending.not_before) == (None, None)
    refused = attrs.evolve(creating, **refused_changes("insufficient_quota", NOW))
    assert (refused.status, refused.creating_at, refused.not_before) == (Status.INTENT, None, NOW)
    assert (refused.reason, refused.input_file_id) == ("insufficient_quota", "file-1")
    forgotten = attrs.evolve(creating, **refused_changes("input_file_not_found", None, forget_input=True))
    assert (forgotten.input_file_id, forgotten.not_before) == (None, None)


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (Status.INTENT, claim_changes(NOW)),
        (Status.CREATING, created_changes("p1", "validating")),
        (Status.CREATING, refused_changes("throttled", NOW)),
        (Status.CREATING, refused_changes("input_file_not_found", None, forget_input=True)),
    ],
)
def test_each_change_is_a_step_of_the_lifecycle_and_fits_the_table(before: Status, changes: dict[str, object]) -> None:
    assert changes["status"] in [after for (status, _), after in TRANSITIONS.items() if status is before]
    row = BatchRow(batch_id="b1", batch_type="X", status=before, input_file_id="f", creating_at=NOW, reason="r")
    sets, removes = changes_to_item(changes, row, SEED)
    item = {name: value for name, value in row_to_item(row, SEED).items() if name not in removes}
    assert item_to_row({**item, **sets}, SEED) == attrs.evolve(row, **changes)


# --- when it is tried again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait_s", "held"), [(None, False), (-1, False), (0, False), (1, True), (3_600, True), (3_601, False), (1e8, False)]
)
def test_a_batch_is_held_back_until_its_time_and_by_no_wrong_clock(wait_s: float | None, held: bool) -> None:
    not_before = None if wait_s is None else NOW + timedelta(seconds=wait_s)
    assert held_back(not_before, NOW) is held


@given(st.none() | st.floats(), st.floats(min_value=0))
def test_what_is_refused_for_capacity_is_held_back_at_most_as_long_as_is_believed(
    advice_s: float | None, capacity_wait_s: float
) -> None:
    until = next_try(NOW, advice_s, Policy(capacity_wait_s=capacity_wait_s))
    assert NOW <= until <= NOW + timedelta(seconds=PAUSE_MAX_S)
    assert held_back(until, NOW) == (until > NOW)


def test_the_providers_advice_counts_before_our_own_wait() -> None:
    policy = Policy(capacity_wait_s=60)
    waits = [(next_try(NOW, advice_s, policy) - NOW).total_seconds() for advice_s in (None, 5.0, 0.0, 600.0)]
    assert waits == [60, 5, 60, 600]


# --- texts that are too long ---------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("a\u00e4\u65e5\U0001f600"), max_size=12), st.integers(1, 40))
def test_only_a_text_with_more_bytes_than_tokens_has_to_be_counted(text: str, most: int) -> None:
    """A token is at least one byte, so fewer bytes are never too many tokens."""
    assert may_exceed_tokens(text, Limits(tokens_per_input=most)) == (len(text.encode()) > most)


def test_a_text_with_too_many_tokens_is_refused_with_its_place() -> None:
    limits = Limits(tokens_per_input=3)
    check_tokens(Record(id="a", text="x"), 3, limits)
    with pytest.raises(InvalidInput) as caught:
        check_tokens(Record(id="a", text="x", source="f.txt:7"), 4, limits)
    assert str(caught.value).startswith("Record 'a' (f.txt:7): its text has 4 tokens; at most 3 are embedded. Split")
    with pytest.raises(InvalidInput, match=r"^Record 'a': its text has 4 tokens"):
        check_tokens(Record(id="a", text="x"), 4, limits)
