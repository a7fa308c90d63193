"""The lines of a batch's output and error files, folded into one verdict a record, whatever their order.

The tables at the top say what each code of the provider means for a record, and whether another try is its own cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

import attrs

from embedpipe.lifecycle import CAPACITY_REASONS
from embedpipe.model import ProviderBatch


class Cause(StrEnum):
    """Why a record is submitted again, and so whether that costs one of its tries."""

    CAPACITY = "capacity"  # quota, rate, queue full: not the record's doing
    BATCH = "batch"  # the whole batch failed validation: not the record's doing
    AMBIGUOUS = "ambiguous"  # the create was lost; counted as an ambiguity instead
    RECORD = "record"  # the record itself was tried and gave nothing


FREE: Final = frozenset({Cause.CAPACITY, Cause.BATCH, Cause.AMBIGUOUS})

RETRIED_CODES: Final = frozenset({"batch_expired", "batch_cancelled", "request_timeout", "server_error"})
RETRIED_STATUS: Final = frozenset({0, 408, 409, 425})
CAPACITY_STATUS: Final = frozenset({429})


class Line(Protocol):
    """What the fold needs of `vectors.OutputLine`."""

    @property
    def custom_id(self) -> str | None: ...
    @property
    def vector(self) -> object | None: ...
    @property
    def status_code(self) -> int | None: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def error_message(self) -> str: ...
    @property
    def problem(self) -> str | None: ...


@attrs.frozen
class Fault:
    """Why a record has no vector. `cause` None: rejected for good."""

    cause: Cause | None
    reason: str
    message: str = ""


def judge(line: Line) -> Fault:
    """What a line without a usable vector means for its record: an error code first, then the HTTP status.

    4xx is final but for the few that mean "later"; 5xx, no status and unusable vectors are tried again.
    """
    code, status = line.error_code, line.status_code
    reason = code or line.problem or (f"http_{status}" if status is not None else "empty_response")
    if code in CAPACITY_REASONS or (status in CAPACITY_STATUS):
        return Fault(Cause.CAPACITY, reason, line.error_message)
    final = status is not None and 400 <= status < 500 and status not in RETRIED_STATUS
    if final and code not in RETRIED_CODES:
        return Fault(None, reason, line.error_message)
    return Fault(Cause.RECORD, reason, line.error_message)


class Fold:
    """Takes the lines of one batch's files in any order and remembers one verdict a record.

    `ids`: the records of the batch, in the order of its input file; None where the deployment kept none, then each id that
    comes is a record. The first usable line of an id wins; a usable line wins over an error.
    """

    def __init__(self, ids: Sequence[str] | None) -> None:
        self.ids: list[str] = list(ids or ())
        self._index = {record_id: at for at, record_id in enumerate(self.ids)}
        self._closed = ids is not None
        self.slots: list[int] = [-1] * len(self.ids)
        self.faults: dict[int, Fault] = {}
        self.lines = 0
        self.vectors = 0
        self.unknown = 0
        self.doubled = 0
        self.unreadable = 0

    def take(self, line: Line) -> bool:
        """Note the line; True where its vector is to be kept, as vector number `vectors - 1`."""
        if line.custom_id is None:
            self.unreadable += 1
            return False
        self.lines += 1
        at = self._index.get(line.custom_id)
        if at is None:
            if self._closed:
                self.unknown += 1
                return False
            at = self._index[line.custom_id] = len(self.ids)
            self.ids.append(line.custom_id)
            self.slots.append(-1)
        if self.slots[at] >= 0:
            self.doubled += 1
            return False
        if line.vector is None:
            self.doubled += at in self.faults
            self.faults.setdefault(at, judge(line))
            return False
        self.doubled += self.faults.pop(at, None) is not None
        self.slots[at] = self.vectors
        self.vectors += 1
        return True

    @property
    def accounted(self) -> bool:
        """Whether every record has a line."""
        return self._closed and self.vectors + len(self.faults) == len(self.ids)

    def notes(self) -> tuple[str, ...]:
        """What was odd, for people."""
        found = (
            (self.unknown, "lines of unknown custom_id"),
            (self.doubled, "lines of a custom_id that came before"),
            (self.unreadable, "unreadable lines"),
        )
        return tuple(f"{count} {what}" for count, what in found if count)


def settled(batch: ProviderBatch, fold: Fold, *, output_absent: bool) -> bool:
    """Whether the files say all that the provider counted. While they don't, paid-for lines may still come.

    `output_absent`: there is no output file, or it can't be found. A line of an unknown id may be one that was counted; the
    second line of an id is none.
    """
    if fold.accounted:
        return True
    if output_absent and batch.counts.completed > 0:
        return False
    return fold.lines - fold.doubled >= batch.counts.completed + batch.counts.failed
