"""What went wrong at an OpenAI-compatible provider, in our errors: one table by HTTP status, one for what has no answer.

The rule: an error says whether the effect may have happened, and never carries a key. Knows what an answer says, not how a
client asks for it: the SDK is not imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import attrs

from embedpipe.errors import NotFound, RefusedRequest, ServiceError, Throttled, Unauthorized, Unavailable
from embedpipe.lifecycle import CAPACITY_REASONS
from embedpipe.model import provider_text, provider_word

__all__ = ["NOT_SENT", "Account", "Answer", "error_of", "no_answer", "redacted", "retry_after_s", "word_of"]

NOT_SENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""Errors of the HTTP library, by name, that come before a byte of the request is sent. (The SDK has changed that library
once, from httpx to httpx2; the names stayed.)"""

# Of the capacity words, these two mean the rate of calls, which the retry policy waits for; the others are states of an
# account, for which a batch waits in line.
_QUOTA: Final = CAPACITY_REASONS - {"rate_limit_exceeded", "throttled"}

_HINTS: Final[Mapping[str, str]] = {
    "insufficient_quota": "Add credit or raise the budget of the project; until then the batches wait in line.",
    "billing_hard_limit_reached": "Raise the budget of the project; until then the batches wait in line.",
    "billing_not_active": "Set up billing for the account; until then the batches wait in line.",
    "token_limit_exceeded": "Open batches fill the limit of enqueued tokens: the others wait; one too large alone is halved.",
}

_KEY_LIKE: Final = re.compile(r"\b(?:sk|sess|ek)-[\w*-]{6,}|(?i:\b(?:bearer|basic)\s+)[^\s'\"]{6,}")
SECRET_CHARS_MIN: Final = 6
"""A shorter key is a placeholder, and would take harmless words with it."""


@attrs.frozen(kw_only=True)
class Account:
    """Whose provider it is, for messages: nothing secret."""

    host: str
    """Such as `api.openai.com`."""
    variables: str = "OPENAI_API_KEY"
    """The environment variables that hold the key."""
    choose_project: str = "OPENAI_PROJECT_ID and OPENAI_ORG_ID choose the project"
    """How another project is chosen."""


@attrs.frozen(kw_only=True)
class Answer:
    """An HTTP answer that is an error, as far as it may be shown."""

    status: int
    code: str = ""
    """The provider's own word, as `word_of` finds it."""
    message: str = ""
    retry_after_s: float | None = None
    request_id: str = ""
    """The provider's name of the call, for its support."""

    @property
    def reason(self) -> str:
        """The provider's word, or one made from the status."""
        return provider_word(self.code) or f"http_{self.status}"

    def said(self) -> str:
        """Status, code and message in a few words."""
        words = " ".join(word for word in (str(self.status), provider_word(self.code)) if word)
        return f"{words}: {provider_text(self.message)}" if self.message else words


def word_of(code: object, kind: object) -> str:
    """The error's `code`; where it has none, its `type` if that says why, as `invalid_request_error` does not.

    >>> word_of(None, "insufficient_quota"), word_of(None, "invalid_request_error"), word_of("empty_file", "x")
    ('insufficient_quota', '', 'empty_file')
    """
    if code:
        return str(code)
    return kind if isinstance(kind, str) and kind in CAPACITY_REASONS else ""


def redacted(text: str, secrets: Collection[str] = ()) -> str:
    """The text without the given secrets and without anything that looks like a key.

    >>> redacted("Incorrect API key provided: sk-proj-1234567890abcdef.")
    'Incorrect API key provided: [key].'
    """
    for secret in secrets:
        if len(secret) >= SECRET_CHARS_MIN:
            text = text.replace(secret, "[key]")
    return _KEY_LIKE.sub("[key]", text)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """The advice of `retry-after-ms` or `retry-after` (seconds or a date), if it can be read.

    >>> retry_after_s({"retry-after": "20"}, datetime(2026, 1, 1, tzinfo=UTC))
    20.0
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1_000
    given = headers.get("retry-after")
    seconds = _number(given)
    return _seconds_until(given, now) if seconds is None and given else seconds


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    return ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds()


# --- the table -----------------------------------------------------------------------------------------------------

_Make = Callable[[str, Answer, Account], ServiceError]


def _unauthorized(text: str, answer: Answer, account: Account) -> ServiceError:
    hint = f"Check {account.variables} in the environment; {account.choose_project}."
    return Unauthorized(text, hint=hint, reason=answer.reason, request_id=answer.request_id)


def _not_found(text: str, answer: Answer, account: Account) -> ServiceError:
    hint = f"If it should be there, the key may be another project's: {account.choose_project}."
    return NotFound(text, hint=hint, reason=answer.reason, request_id=answer.request_id)


def _throttled(text: str, answer: Answer, account: Account) -> ServiceError:
    if answer.code in _QUOTA:
        return _refused(text, answer, account)
    return Throttled(text, retry_after_s=answer.retry_after_s, reason=answer.reason, request_id=answer.request_id)


def _refused(text: str, answer: Answer, _: Account) -> ServiceError:
    hint = _HINTS.get(answer.code, "")
    return RefusedRequest(text, reason=answer.reason, hint=hint, request_id=answer.request_id)


def _unavailable(text: str, answer: Answer, _: Account) -> ServiceError:
    return Unavailable(text, reason=answer.reason, request_id=answer.request_id)


BY_STATUS: Final[Mapping[int, _Make]] = {
    401: _unauthorized,
    403: _unauthorized,
    404: _not_found,
    408: _unavailable,  # a timeout on their side
    409: _unavailable,  # two calls met; which of them had its effect is not said
    429: _throttled,
}
"""Any other status from 400 to 499 is a definite no, and everything else no answer at all."""


def error_of(answer: Answer, what: str, account: Account) -> ServiceError:
    """The error that an answer means. `what` says what was asked, such as `Creating a batch`."""
    usual = _refused if 400 <= answer.status < 500 else _unavailable
    make = BY_STATUS.get(answer.status, usual)
    return make(f"{what}: {account.host} answered {answer.said()}.".replace("..", "."), answer, account)


def no_answer(kind: str, what: str, account: Account) -> ServiceError:
    """The error where nothing came back, or nothing that can be read. `kind` is the HTTP library's name for it."""
    if kind in NOT_SENT:
        hint = "Check the network and provider.base_url."
        return Throttled(f"{what}: {account.host} can't be reached ({kind}); nothing was sent.", hint=hint)
    return Unavailable(f"{what}: {account.host} gave no answer that can be read ({kind}).")
