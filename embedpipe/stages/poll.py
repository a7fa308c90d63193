"""Poll, decided: what a register says of a batch: why it waits, since when, and what may take its place.

`fold` and `conclude` decide the fate of the records of a batch that has ended.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from embedpipe.errors import CorruptData
from embedpipe.lifecycle import PROVIDER_PHASES, REGISTER_MOVES, TERMINAL_ACTIONS, Action, Phase
from embedpipe.limits import Policy
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.wire import Result, format_time, parse_time


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


def unknown_reason(row: BatchRow, now: datetime, policy: Policy) -> WaitReason:
    """What a 404 means: nothing yet while the batch is new, else that it, or the project, is not there."""
    began = row.creating_at or row.submitted_at
    # Either way: clocks differ a little, and a time far in the future says nothing.
    fresh = began is not None and abs((now - began).total_seconds()) < policy.not_found_grace_s
    return WaitReason.NOT_YET_FOUND if fresh else WaitReason.NOT_FOUND


def ended_without_batch(status: str) -> ProviderBatch:
    """Stands for a batch that the provider does not have: `create_lost`, or `lost` after it was there."""
    return ProviderBatch(id="", status=status)
