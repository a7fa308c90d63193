"""The fate of every record of a batch that has ended: vectors, rejected and retry, whose sum is the number of records.

Where a batch failed as a whole, its records are dealt out to retry batches here: all but the lines that the provider
names, in halves where it names none, and in halves where the batch is too large for its account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from embedpipe.lifecycle import CAPACITY_REASONS, Action
from embedpipe.limits import BATCH_WINDOW_S
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.stages.fold import FREE, Cause, Fault, Fold
from embedpipe.wire import Rejected, Retry

ENDED_REASON: Final = {"completed": "missing_line", "expired": "batch_expired", "cancelled": "batch_cancelled"}
"""Why a record of an ended batch has no line. `failed` is judged by the batch's own issues."""


BATCH_FAILED: Final = "batch_failed"
"""The reason where the provider gives none."""

SIZE_REASON: Final = "token_limit_exceeded"
"""The one word for capacity that a smaller batch may answer. [openai]"""
TRIED_WHOLE: Final = 3
"""[ours] Refusals in a row, each after a longer pause, before a batch is suspected to be too large for its account."""
REQUESTS_NOT_HALVED: Final = 100
"""[ours] Smaller than every account's limit, and the end of halving while somebody unseen fills the queue."""
OPEN_MAX_S: Final = 2.0 * BATCH_WINDOW_S
"""[ours] A batch this old has ended: its window, and as long again to expire and to be cancelled."""


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


def refused_for_size(batch: ProviderBatch) -> bool:
    """Whether it failed because its tokens and those of the other open batches were too many together."""
    return batch.status == "failed" and any(issue.code == SIZE_REASON for issue in batch.issues)


def may_be_too_large(batch: ProviderBatch, row: BatchRow) -> bool:
    """Whether a refusal is worth the question if the batch alone is above the account's limit: others may have ended."""
    count = row.request_count or 0
    return refused_for_size(batch) and row.attempt >= TRIED_WHOLE and count > REQUESTS_NOT_HALVED


def was_alone(batch: ProviderBatch, others: Iterable[ProviderBatch]) -> bool:
    """Whether no other batch was open beside this one, so that its own tokens alone are too many.

    `others`: newest first, as the provider lists them; read only as far as a batch that is still open may be. One that was
    itself refused for its size took no room. A time that the provider doesn't say counts as beside.
    """
    if batch.created_at is None:
        return False
    for other in others:
        if other.id == batch.id or refused_for_size(other):
            continue
        if other.created_at is None:
            return False
        if (batch.created_at - other.created_at).total_seconds() > OPEN_MAX_S:
            break
        ended_before = other.ended_at is not None and other.ended_at < batch.created_at
        begun_after = batch.ended_at is not None and other.created_at > batch.ended_at
        if not (ended_before or begun_after):
            return False
    return True


def batch_faults(batch: ProviderBatch, count: int, *, too_large: bool = False) -> dict[int, tuple[Fault, int]]:
    """For a batch that failed as a whole: each record's fault and its retry part.

    Named lines are dropped and the rest goes again; where no line is named the batch is halved, so that one bad record is
    cornered; a batch of one is the bad record itself. Capacity is nobody's fault: it goes again whole, or halved where
    waiting would not help.
    """
    half = (count + 1) // 2
    for issue in batch.issues:
        if issue.code in CAPACITY_REASONS:
            refusal = Fault(Cause.CAPACITY, issue.code, issue.message)
            return {at: (refusal, int(too_large and at >= half)) for at in range(count)}
    named = {
        issue.line - 1: Fault(None, issue.code or BATCH_FAILED, issue.message)
        for issue in reversed(batch.issues)
        if issue.line is not None and 1 <= issue.line <= count
    }
    first = batch.issues[0] if batch.issues else None
    code, message = (first.code or BATCH_FAILED, first.message) if first else (BATCH_FAILED, "")
    if not named and count == 1:
        return {0: (Fault(None, code, message), 0)}
    rest = Fault(Cause.BATCH, code, message)
    return {at: (named.get(at, rest), int(not named and at >= half)) for at in range(count)}


def conclude(
    batch: ProviderBatch,
    fold: Fold,
    *,
    row: BatchRow,
    tries: Sequence[int] | None,
    attempts_max: int,
    too_large: bool = False,
) -> Conclusion:
    """Decide each record. `tries`: what each record has cost with this batch; None where there are no record files.

    Without record files nothing can be submitted again, so every fault is a rejection that says so. `too_large`: the batch
    is above what the account may have open at once, so that its records go again in two.
    """
    fallback = _fallback(batch, len(fold.ids), too_large)
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


def _fallback(batch: ProviderBatch, count: int, too_large: bool) -> Callable[[int], tuple[Fault, int]]:
    if batch.status == "create_lost":
        fault = Fault(Cause.AMBIGUOUS, "create_lost")
    elif batch.status == "failed":
        return batch_faults(batch, count, too_large=too_large).__getitem__
    else:
        fault = Fault(Cause.RECORD, ENDED_REASON.get(batch.status, batch.status))
    return lambda _: (fault, 0)


def retry_lines(retry: Iterable[Retry]) -> bytes:
    """`retry.jsonl`."""
    return b"".join(entry.dump() + b"\n" for entry in retry)


def rejected_lines(rejected: Iterable[Rejected]) -> bytes:
    """`rejected.jsonl`."""
    return b"".join(entry.dump() + b"\n" for entry in rejected)
