"""Poll, decided: wait or terminal, and for a terminal batch the fate of each of its records.

`look` judges the provider's status, `Fold` takes the lines of the output and error files one by one, `conclude` turns it all
into vectors, rejected and retry, whose sum is the number of records. The tables at the top say what each code means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

import attrs

from embedpipe.errors import CorruptData
from embedpipe.lifecycle import (
    CAPACITY_REASONS,
    PROVIDER_PHASES,
    REGISTER_MOVES,
    TERMINAL_ACTIONS,
    Action,
    Phase,
)
from embedpipe.limits import Policy
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.wire import Rejected, Result, Retry, format_time, parse_time


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

ENDED_REASON: Final = {"completed": "missing_line", "expired": "batch_expired", "cancelled": "batch_cancelled"}
"""Why a record of an ended batch has no line. `failed` is judged by the batch's own issues."""


BATCH_FAILED: Final = "batch_failed"
"""The reason where the provider gives none."""


class WaitReason(StrEnum):
    """Why a register says `wait`."""

    RUNNING = "running"
    UNKNOWN_STATUS = "unknown_status"
    CREATING = "creating"
    SETTLING = "settling"  # the provider's counts are ahead of its files
    NOT_YET_FOUND = "not_yet_found"  # a new batch that the provider does not show yet
    NOT_FOUND = "not_found"
    UNAUTHORIZED = "unauthorized"


SEARCHED: Final = frozenset({WaitReason.NOT_FOUND, WaitReason.UNAUTHORIZED})
"""What a register says of a create that was searched for after its time."""


# --- status --------------------------------------------------------------------------------------------------------


def look(batch: ProviderBatch) -> WaitReason | None:
    """Why to wait, from the status alone; None where the files have to be read.

    >>> look(ProviderBatch(id="b", status="in_progress")), look(ProviderBatch(id="b", status="expired"))
    (<WaitReason.RUNNING: 'running'>, None)
    """
    phase = PROVIDER_PHASES.get(batch.status)
    if phase is None:
        return WaitReason.UNKNOWN_STATUS
    return WaitReason.RUNNING if phase is Phase.RUNNING else None


def waiting_since(register: Result | None, reason: WaitReason, now: datetime) -> datetime:
    """When this reason to wait began: what the register says, while the reason is the same.

    A time in the future is that of a wrong clock, and one that is none is damage: then it begins now, and the register
    will say so.
    """
    if register is None or register.action is not Action.WAIT or register.reason != reason or not register.since:
        return now
    try:
        return min(parse_time(register.since, "since"), now)
    except CorruptData:
        return now


def overdue(since: datetime, now: datetime, limit_s: float) -> bool:
    """Whether a wait has lasted its limit."""
    return (now - since).total_seconds() >= limit_s  # a limit may be longer than a timedelta can hold


def search_overdue(row: BatchRow, register: Result | None, now: datetime, policy: Policy) -> bool:
    """Whether a create with no known answer has been searched for long enough to count as lost.

    A time in the future is that of a wrong clock and says nothing: neither that it is overdue, which might pay twice, nor
    that it is not, which might wait for years. Then the wait is counted from the first poll that saw it.

    >>> from datetime import UTC
    >>> from embedpipe.lifecycle import Status
    >>> now, years_later = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
    >>> row = BatchRow(batch_id="b", batch_type="X", status=Status.CREATING, creating_at=years_later)
    >>> first = Result(batch_id="b", action=Action.WAIT, reason="creating", since="2026-01-01T10:00:00Z")
    >>> search_overdue(row, None, now, Policy()), search_overdue(row, first, now, Policy())
    (False, True)
    """
    began = row.creating_at or row.submitted_at
    if began is None or began > now:
        if register is not None and register.action is Action.WAIT and register.reason in SEARCHED:
            return True  # it was overdue before, and the reason to wait is another one by now
        began = waiting_since(register, WaitReason.CREATING, now)
    return overdue(began, now, policy.ambiguous_after_s)


def wait_result(row: BatchRow, reason: WaitReason, *, status: str, since: datetime, execution_id: str) -> Result:
    """The register of a batch that is not finished."""
    return Result(
        batch_id=row.batch_id,
        openai_batch_id=row.provider_batch_id,
        batch_status=status,
        action=Action.WAIT,
        collection=row.collection,
        database=row.database,
        reason=str(reason),
        since=format_time(since),
        execution_id=execution_id,
    )


def may_replace(stored: Result | None, proposed: Result, *, damaged: bool = False) -> bool:
    """Whether the register may move from `stored` to `proposed`: forward only.

    A terminal result is revised only where its delta is damaged, and then with the same retry set. The seed's results
    name no retry set, and nothing was ever submitted again because of them.
    """
    if stored is not None and stored.action in TERMINAL_ACTIONS:
        same = stored.retry_sha256 in (None, proposed.retry_sha256)
        return damaged and proposed.action in TERMINAL_ACTIONS and same
    return (stored.action if stored else None, proposed.action) in REGISTER_MOVES


# --- lines ---------------------------------------------------------------------------------------------------------


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


# --- conclusion ----------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Conclusion:
    """The fate of every record of a terminal batch."""

    status: str
    action: Action
    order: tuple[int, ...]
    """Records with a vector, by their position in the batch, ascending by id."""
    rejected: tuple[Rejected, ...]
    retry: tuple[Retry, ...]
    notes: tuple[str, ...]


def batch_faults(batch: ProviderBatch, count: int) -> dict[int, tuple[Fault, int]]:
    """For a batch that failed as a whole: each record's fault and its retry part.

    Named lines are dropped and the rest goes again; where no line is named the batch is halved, so that one bad record is
    cornered; a batch of one is the bad record itself. Capacity is nobody's fault.
    """
    for issue in batch.issues:
        if issue.code in CAPACITY_REASONS:
            return {at: (Fault(Cause.CAPACITY, issue.code, issue.message), 0) for at in range(count)}
    named = {
        issue.line - 1: Fault(None, issue.code or BATCH_FAILED, issue.message)
        for issue in reversed(batch.issues)
        if issue.line is not None and 1 <= issue.line <= count
    }
    first = batch.issues[0] if batch.issues else None
    code, message = (first.code or BATCH_FAILED, first.message) if first else (BATCH_FAILED, "")
    if not named and count == 1:
        return {0: (Fault(None, code, message), 0)}
    half = count if named else (count + 1) // 2
    rest = Fault(Cause.BATCH, code, message)
    return {at: (named.get(at, rest), int(at >= half)) for at in range(count)}


def conclude(
    batch: ProviderBatch, fold: Fold, *, row: BatchRow, tries: Sequence[int] | None, attempts_max: int
) -> Conclusion:
    """Decide each record. `tries`: what each record has cost with this batch; None where there are no record files.

    Without record files nothing can be submitted again, so every fault is a rejection that says so.
    """
    fallback = _fallback(batch, len(fold.ids))
    rejected: list[Rejected] = []
    retry: list[Retry] = []
    for at in sorted(range(len(fold.ids)), key=fold.ids.__getitem__):
        if fold.slots[at] >= 0:
            continue
        fault, part = (fold.faults[at], 0) if at in fold.faults else fallback(at)
        cost = 1 if tries is None else tries[at]
        after = cost + (fault.cause not in FREE)
        if fault.cause is None or tries is None:
            why, message = fault.reason, fault.message
        elif after > attempts_max:
            why, message = "attempts_exhausted", f"last: {fault.reason} {fault.message}".strip()
        else:
            retry.append(Retry(id=fold.ids[at], part=part, tries=after, cause=fault.cause, reason=fault.reason))
            continue
        rejected.append(
            Rejected(
                id=fold.ids[at],
                seq=row.claim.seq,
                attempt=row.attempt,
                tries=cost,
                reason=why,
                message=message,
            )
        )
    order = tuple(at for at in sorted(range(len(fold.ids)), key=fold.ids.__getitem__) if fold.slots[at] >= 0)
    return Conclusion(
        status=batch.status,
        action=_action(len(order), bool(retry), batch.status),
        order=order,
        rejected=tuple(rejected),
        retry=tuple(retry),
        notes=fold.notes(),
    )


def _action(vectors: int, retried: bool, status: str) -> Action:
    if status == "completed" and not retried:
        return Action.PROCESS_RESULTS
    return Action.PROCESS_PARTIAL if vectors else Action.HANDLE_FAILURE


def _fallback(batch: ProviderBatch, count: int) -> Callable[[int], tuple[Fault, int]]:
    if batch.status == "create_lost":
        fault = Fault(Cause.AMBIGUOUS, "create_lost")
    elif batch.status == "failed":
        return batch_faults(batch, count).__getitem__
    else:
        fault = Fault(Cause.RECORD, ENDED_REASON.get(batch.status, batch.status))
    return lambda _: (fault, 0)


def ended_without_batch(status: str) -> ProviderBatch:
    """Stands for a batch that the provider does not have: `create_lost`, or `lost` after it was there."""
    return ProviderBatch(id="", status=status)


def retry_lines(retry: Iterable[Retry]) -> bytes:
    """`retry.jsonl`."""
    return b"".join(entry.dump() + b"\n" for entry in retry)


def rejected_lines(rejected: Iterable[Rejected]) -> bytes:
    """`rejected.jsonl`."""
    return b"".join(entry.dump() + b"\n" for entry in rejected)


def unknown_reason(row: BatchRow, now: datetime, policy: Policy) -> WaitReason:
    """What a 404 means: nothing yet while the batch is new, else that it, or the project, is not there."""
    began = row.creating_at or row.submitted_at
    # Either way: clocks differ a little, and a time far in the future says nothing.
    fresh = began is not None and abs((now - began).total_seconds()) < policy.not_found_grace_s
    return WaitReason.NOT_YET_FOUND if fresh else WaitReason.NOT_FOUND
