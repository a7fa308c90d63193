"""Mark, decided: which batches are proven, how each ends, and which retry batches take what is left over.

A batch is proven when each of its records is in the published catalog under its claim or a greater one, or rejected, or in
a retry batch whose row exists. The retry's name and content are functions of the delta alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

import attrs

from embedpipe.lifecycle import ENDINGS, OPEN, TERMINAL_ACTIONS, TRANSITIONS, Event, Status, advance
from embedpipe.limits import PAUSE_MAX_S, Policy
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.stages.fold import Cause
from embedpipe.wire import Mark, MarkCounts, Result, Retry

RETRY_NAMESPACE: Final = UUID("8f0e5c9e-6e0b-5d53-9d5b-3c3a3d0f6f11")


def retry_batch_id(parent: str, attempt: int, part: int) -> str:
    """The name of a retry batch: whoever decides it, it is the same.

    >>> retry_batch_id("p", 2, 0) == retry_batch_id("p", 2, 0) != retry_batch_id("p", 2, 1)
    True
    """
    return str(uuid5(RETRY_NAMESPACE, f"{parent}/{attempt}/{part}"))


@attrs.frozen(kw_only=True)
class RetryBatch:
    """One retry batch: its name and its records, in the order of the parent's input file."""

    batch_id: str
    attempt: int
    part: int
    entries: tuple[Retry, ...]

    @property
    def waits_for_capacity(self) -> bool:
        """Whether it is held back for a while before it is created."""
        return any(entry.cause == Cause.CAPACITY for entry in self.entries)


def retry_batches(row: BatchRow, retry: Sequence[Retry]) -> tuple[RetryBatch, ...]:
    """The retry batches of a delta, by part."""
    attempt = row.attempt + 1
    return tuple(
        RetryBatch(
            batch_id=retry_batch_id(row.batch_id, attempt, part),
            attempt=attempt,
            part=part,
            entries=tuple(sorted((entry for entry in retry if entry.part == part), key=lambda entry: entry.id)),
        )
        for part in sorted({entry.part for entry in retry})
    )


def retry_row(
    parent: BatchRow, retry: RetryBatch, *, request_sha256: str, records_sha256: str, now: datetime, policy: Policy
) -> BatchRow:
    """The `INTENT` row of a retry batch: same seq, next attempt."""
    wait_s = min(PAUSE_MAX_S, policy.capacity_wait_s * 2.0 ** min(parent.attempt - 1, 16))
    return BatchRow(
        batch_id=retry.batch_id,
        batch_type=parent.batch_type,
        status=Status.INTENT,
        submitted_at=now,
        request_count=len(retry.entries),
        request_sha256=request_sha256,
        records_sha256=records_sha256,
        seq=parent.seq,
        attempt=retry.attempt,
        parent_batch_id=parent.batch_id,
        collection=parent.collection,
        database=parent.database,
        model=parent.model,
        dimensions=parent.dimensions,
        not_before=now + timedelta(seconds=wait_s) if retry.waits_for_capacity else None,
    )


def skip_reason(result: Result) -> str | None:
    """Why a result can't end its batch in this execution; None where it may."""
    if result.action in TERMINAL_ACTIONS:
        return None
    return f"{result.action}: {result.reason}" if result.reason else str(result.action)


def ending(result: Result) -> Event:
    """How a proven batch ends: COMPLETED where it gave a vector, else by the word for what happened to it."""
    if result.embedding_count:
        return Event.PROVEN
    return ENDINGS.get(result.batch_status or "completed", Event.PROVEN)


def end_changes(
    row: BatchRow, result: Result, *, retry: Iterable[RetryBatch], execution_id: str, version: str | None
) -> dict[str, object]:
    """The update that ends a proven row, naming its retry batches."""
    return {
        "status": advance(row.status, ending(result)),
        "provider_status": result.batch_status,
        "retry_batch_ids": tuple(batch.batch_id for batch in retry),
        "completed_by": execution_id,
        "snapshot_version": version,
        "reason": result.reason,
    }


def ended_mark(row: BatchRow, execution_id: str) -> Mark:
    """What is said of a row that has ended. The execution that ended it says `marked` however often it is asked.

    It may be asked again because the engine repeats the step, or because the answer to its own update was lost.
    """
    return Mark(
        batch_id=row.batch_id,
        outcome="marked" if row.completed_by == execution_id else "already_complete",
        status=row.status,
        reason=row.reason,
        retry_batch_ids=row.retry_batch_ids,
    )


def may_delete_files(row: BatchRow, policy: Policy, *, journaled: Collection[str]) -> bool:
    """Whether the provider's files of an ended batch may go: it is asked for, and nobody will read them again.

    That is so once its vectors are proven to be published. A batch that a journal names may be merged again.
    """
    return policy.delete_provider_files and row.status is Status.COMPLETED and row.batch_id not in journaled


def provider_files(batch: ProviderBatch) -> tuple[str, ...]:
    """The files of a batch, each once."""
    named = (batch.output_file_id, batch.error_file_id, batch.input_file_id)
    return tuple(dict.fromkeys(file_id for file_id in named if file_id is not None))


def before_proof(
    results: Iterable[Result], rows: Mapping[str, BatchRow], execution_id: str
) -> tuple[list[Mark], list[Result]]:
    """Sort the results: what is decided without a proof, and what needs one. Each batch once."""
    marks: list[Mark] = []
    candidates: dict[str, Result] = {}
    seen: set[str] = set()
    for result in results:
        if result.batch_id in seen:
            continue
        seen.add(result.batch_id)
        row = rows.get(result.batch_id)
        if row is None:
            marks.append(Mark(batch_id=result.batch_id, outcome="missing", reason="no row in the table"))
        elif row.status not in OPEN:
            marks.append(ended_mark(row, execution_id))
        elif reason := skip_reason(result):
            marks.append(Mark(batch_id=row.batch_id, outcome="skipped", status=row.status, reason=reason))
        elif (row.status, ending(result)) not in TRANSITIONS:
            marks.append(Mark(batch_id=row.batch_id, outcome="skipped", status=row.status, reason="not yet PENDING"))
        else:
            candidates[row.batch_id] = result
    return marks, list(candidates.values())


def counts(marks: Sequence[Mark], results: Sequence[Result], *, key: str, bucket: str) -> MarkCounts:
    """The counts of the mark step."""

    def number(outcome: str) -> int:
        return sum(mark.outcome == outcome for mark in marks)

    return MarkCounts(
        extracted=len(marks),
        eligible=len({result.batch_id for result in results if result.action in TERMINAL_ACTIONS}),
        batches_marked=number("marked"),
        already_complete=number("already_complete"),
        skipped=number("skipped"),
        missing=number("missing"),
        marked_s3_key=key,
        marked_s3_bucket=bucket,
    )
