"""The table of a provider's errors: laws over any status, any header and any text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.backends.openai_errors import (
    BY_STATUS,
    NOT_SENT,
    Account,
    Answer,
    error_of,
    no_answer,
    redacted,
    retry_after_s,
    word_of,
)
from embedpipe.errors import (
    NotFound,
    RefusedRequest,
    ServiceError,
    Throttled,
    Transient,
    Unauthorized,
    Unavailable,
)
from embedpipe.lifecycle import CAPACITY_REASONS

ACCOUNT = Account(host="vectors.example")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NO_EFFECT = (RefusedRequest, Throttled, Unauthorized, NotFound)
KEYS = st.from_regex(r"sk-[A-Za-z0-9_-]{20,60}", fullmatch=True)


@given(st.integers(300, 599), st.sampled_from(["", "bad_thing", *sorted(CAPACITY_REASONS)]), st.text(max_size=20))
def test_a_4xx_had_no_effect_and_a_5xx_may_have_had_one(status: int, code: str, message: str) -> None:
    error = error_of(Answer(status=status, code=code, message=message), "Creating a batch", ACCOUNT)
    if 400 <= status < 500 and status not in (408, 409):
        assert type(error) in NO_EFFECT
    else:
        assert type(error) is Unavailable
    assert "Creating a batch" in error.message
    assert "vectors.example" in error.message
    assert str(status) in error.message


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "invalid_api_key", Unauthorized),
        (403, "", Unauthorized),
        (404, "", NotFound),
        (429, "", Throttled),
        (429, "rate_limit_exceeded", Throttled),
        (429, "insufficient_quota", RefusedRequest),
        (429, "token_limit_exceeded", RefusedRequest),
        (400, "billing_hard_limit_reached", RefusedRequest),
        (422, "", RefusedRequest),
        (408, "", Unavailable),
        (409, "", Unavailable),
        (500, "server_error", Unavailable),
    ],
)
def test_the_table(status: int, code: str, expected: type[ServiceError]) -> None:
    error = error_of(Answer(status=status, code=code, retry_after_s=3.0, request_id="req_1"), "Asking", ACCOUNT)
    assert type(error) is expected
    assert error.context["request_id"] == "req_1"
    if isinstance(error, RefusedRequest):
        assert error.reason in (code, f"http_{status}")
        assert bool(error.hint) == (code in CAPACITY_REASONS)
    if isinstance(error, Throttled):
        assert error.retry_after_s == 3.0


def test_the_table_is_of_statuses_that_are_not_as_their_hundred() -> None:
    assert set(BY_STATUS) == {401, 403, 404, 408, 409, 429}


@pytest.mark.parametrize("kind", [*sorted(NOT_SENT), "ReadTimeout", "RemoteProtocolError", "ReadError", "WriteError"])
def test_only_what_was_never_sent_had_certainly_no_effect(kind: str) -> None:
    error = no_answer(kind, "Creating a batch", ACCOUNT)
    assert isinstance(error, Transient)
    assert isinstance(error, Throttled) == (kind in NOT_SENT)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=30))}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 -0000"}, 30.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_advice_is_read(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW) == expected


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text(max_size=40)))
def test_any_advice_can_be_read(headers: dict[str, str]) -> None:
    assert isinstance(retry_after_s(headers, NOW), float | None)


@given(st.text(max_size=30), KEYS, st.text(max_size=30))
def test_a_key_never_comes_through(before: str, key: str, after: str) -> None:
    assert key not in redacted(f"{before} {key} {after}")
    assert key not in redacted(f"{before}{key}{after}", [key])
    assert key[3:] not in redacted(f"{before} Bearer {key[3:]} {after}")


@given(st.text(alphabet="abcdefghij .,", max_size=60))
def test_other_words_come_through(text: str) -> None:
    assert redacted(text, ["", "key"]) == text


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [(None, None, ""), (400, None, "400"), ("x", "insufficient_quota", "x"), (None, [], "")],
)
def test_the_word_of_an_error(code: object, kind: object, expected: str) -> None:
    assert word_of(code, kind) == expected
