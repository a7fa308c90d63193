"""The table of failures: which call of the server, by number, is answered otherwise, and how.

A JSON array of rows `{"call": "batches.create", "nth": 2, "answer": {"status": 429, "retry_after_s": 1}}`. Calls of each
name are counted from 1; a row stands for `times` calls from its `nth` on (0: for all of them). The first row that fits
counts. Data only: the server acts it out.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from embedpipe.errors import ConfigError

Call = Literal[
    "files.create",
    "files.list",
    "files.retrieve",
    "files.content",
    "files.delete",
    "batches.create",
    "batches.list",
    "batches.retrieve",
    "batches.cancel",
    "embeddings.create",
]
"""What the SDK calls it."""

EXAMPLE: Final = '[{"call": "batches.create", "nth": 2, "answer": {"end": "expired", "answered": 10}}]'


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one call is answered. It names one of `status`, `lose` and `end`, or nothing but `delay_s`."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    """Answered with this status at once, without any effect."""
    code: str | None = None
    """The error's code; with `end: failed`, that of its issue."""
    message: str | None = None
    """Likewise its text."""
    retry_after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Advice in the header of an answer with `status`."""
    lose: Literal["answer", "request"] | None = None
    """The connection breaks: after the effect, or before it."""
    end: Literal["failed", "expired", "cancelled"] | None = None
    """Of `batches.create`: the batch is made, and ends like that."""
    answered: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many requests of an expired or cancelled batch have vectors."""
    line: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The line that the issue of a failed batch names."""
    delay_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """The answer comes so much later than its effect."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row."""

    call: Call
    answer: Answer
    nth: Annotated[int, msgspec.Meta(ge=1)] = 1
    times: Annotated[int, msgspec.Meta(ge=0)] = 1

    def fits(self, call: Call, number: int) -> bool:
        """Whether it is about the `number`th such call."""
        return self.call == call and self.nth <= number and (not self.times or number < self.nth + self.times)


class Failures:
    """The table in use: counts the calls. Thread-safe."""

    def __init__(self, table: Sequence[Failure] = ()) -> None:
        self._table = tuple(table)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next(self, call: Call) -> Answer | None:
        """Count one call; how it is answered, if not as usual."""
        with self._lock:
            self._counts[call] += 1
            number = self._counts[call]
        return next((row.answer for row in self._table if row.fits(call, number)), None)

    def count(self, call: Call) -> int:
        """How often it was called."""
        with self._lock:
            return self._counts[call]


def parse(data: bytes, source: str) -> tuple[Failure, ...]:
    """Read a table. `ConfigError` names `source` and the place in it.

    >>> parse(b'[{"call": "batches.create", "answer": {"lose": "answer"}}]', "table")[0].nth
    1
    """
    try:
        table = msgspec.json.decode(data, type=tuple[Failure, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: {error}.", hint=f"Such as {EXAMPLE}") from None
    for number, row in enumerate(table, start=1):
        problem = _problem(row)
        if problem:
            raise ConfigError(f"{source}: row {number} {problem}.", hint=f"Such as {EXAMPLE}")
    return table


def load(path: Path) -> tuple[Failure, ...]:
    """Read a table from a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", hint="Name a JSON file.") from error
    return parse(data, str(path))


def _problem(row: Failure) -> str:
    answer = row.answer
    named = [name for name in ("status", "lose", "end") if getattr(answer, name) is not None]
    if len(named) > 1:
        return f"has both {named[0]} and {named[1]}"
    if not named and not answer.delay_s:
        return "says nothing: it needs status, lose, end or delay_s"
    if answer.end is not None and row.call != "batches.create":
        return "has an end, which only batches.create can"
    return ""
