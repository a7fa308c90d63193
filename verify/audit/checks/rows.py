"""B: does each row fit its lifecycle, its index and its ledger? And is COMPLETED backed by a terminal result?

The last of the seed's four verifications, as far as one batch shows it; `records` has the proof by record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from embedpipe.lifecycle import OPEN, TERMINAL, TERMINAL_ACTIONS, Status
from embedpipe.model import BatchRow
from verify.audit.checks import BatchCheck, Moment, found
from verify.audit.findings import Finding
from verify.audit.objects import Unreadable
from verify.audit.rows import Batch

__all__ = ["BATCH_CHECKS", "in_index", "one_name"]

NAMED: Final = frozenset({Status.PENDING, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED})
"""Statuses that only a row with an openai_batch_id reaches."""
UNNAMED: Final = frozenset({Status.INTENT, Status.CREATING})


def completed_while_waiting(batch: Batch, moment: Moment) -> Iterator[Finding]:
    """B701: the row says COMPLETED, and its result is not terminal; or it is the seed's, and there is none."""
    row, result = batch.known_row, batch.result
    if row is None or row.status is not Status.COMPLETED:
        return
    location = f"table:{batch.batch_id}"
    if result is not None and result.action not in TERMINAL_ACTIONS:
        yield found(
            "B701", location, batch.batch_id, row_status=str(row.status), result_action=str(result.action), gap="result"
        )
    elif result is None and not batch.is_ours and moment.depth.reads_content and _is_fault(batch):
        cause = "P201" if batch.register_missing else "P202" if isinstance(batch.register, Unreadable) else "P203"
        gap = found("B701", location, batch.batch_id, row_status=str(row.status), result="unusable", gap="result")
        yield attrs.evolve(gap, caused_by=cause)


def _is_fault(batch: Batch) -> bool:
    return not isinstance(batch.register, Unreadable) or batch.register.is_fault


def damaged_row(batch: Batch, _: Moment) -> Iterator[Finding]:
    """B702: it can't be read."""
    if isinstance(batch.row, Unreadable) and batch.row.is_fault:
        yield found("B702", f"table:{batch.batch_id}", batch.batch_id, message=batch.row.reason)


def impossible_row(batch: Batch, _: Moment) -> Iterator[Finding]:
    """B702: its attributes belong to another status than it has."""
    row = batch.known_row
    if row is None or row.seq is None:
        return
    wrong = _impossible(row)
    if wrong:
        yield found(
            "B702",
            f"table:{batch.batch_id}",
            batch.batch_id,
            status=str(row.status),
            openai_batch_id=row.provider_batch_id,
            completed_by=row.completed_by,
            message=wrong,
        )


def _impossible(row: BatchRow) -> str:
    if row.status in NAMED and row.provider_batch_id is None:
        return f"{row.status} without an openai_batch_id"
    if row.status in UNNAMED and row.provider_batch_id is not None:
        return f"{row.status} with an openai_batch_id"
    if row.status in TERMINAL and row.completed_by is None:
        return f"{row.status}, and no execution ended it"
    if row.status in OPEN and row.completed_by is not None:
        return f"{row.status}, and an execution ended it"
    return ""


def ended_otherwise(batch: Batch, _: Moment) -> Iterator[Finding]:
    """B702: its result has vectors, and the row says that it gave none."""
    row, result = batch.known_row, batch.terminal_result
    if row is None or result is None or row.seq is None or row.status not in TERMINAL - {Status.COMPLETED}:
        return
    if result.embedding_count:
        yield found(
            "B702",
            f"table:{batch.batch_id}",
            batch.batch_id,
            status=str(row.status),
            result={"batch_status": result.batch_status, "embedding_count": result.embedding_count},
            message=f"{row.status}, and its result has vectors",
        )


def in_index(batch: Batch, _: Moment) -> Iterator[Finding]:
    """B702: the index has it under another status, or not at all. Confirmed late: the index may lag."""
    row = batch.known_row
    if row is None or batch.indexed == {str(row.status)}:
        return
    yield found(
        "B702",
        f"index:{batch.batch_id}",
        batch.batch_id,
        row_status=str(row.status),
        index_status=sorted(batch.indexed) or "absent",
    )


def one_name(provider_batch_id: str, rows: Sequence[BatchRow]) -> Iterator[Finding]:
    """B703: several rows name one provider batch. `rows` are read a second time."""
    same = [row for row in rows if row.provider_batch_id == provider_batch_id]
    if len(same) > 1:
        yield found(
            "B703",
            f"table:{same[0].batch_id}",
            *(row.batch_id for row in same),
            openai_batch_id=provider_batch_id,
            rows={row.batch_id: {"status": str(row.status), "request_count": row.request_count} for row in same},
        )


def unanswered_create(batch: Batch, moment: Moment) -> Iterator[Finding]:
    """B704."""
    row = batch.known_row
    if row is None or row.status is not Status.CREATING:
        return
    since = row.creating_at or row.submitted_at
    if moment.is_old(since):
        yield found(
            "B704",
            f"table:{batch.batch_id}",
            batch.batch_id,
            status=str(row.status),
            creating_at=since.isoformat() if since else None,
            age_s=round(moment.age_s(since) or 0),
            input_file_id=row.input_file_id,
        )


def ledger_and_rows(batch: Batch, moment: Moment) -> Iterator[Finding]:
    """B705: an entry without a row, past the grace period, or an open row of a submission without an entry."""
    row = batch.known_row
    if batch.opened and batch.row is None:
        entry = batch.opened[0]
        if moment.is_old(entry.submitted_at):
            yield found(
                "B705",
                f"objects:{entry.key}",
                batch.batch_id,
                entry={"seq": entry.seq, "submitted_at": entry.submitted_at},
                row="missing",
            )
    elif row is not None and _needs_entry(row) and not batch.opened and not batch.ledger_unseen:
        yield found(
            "B705",
            f"table:{batch.batch_id}",
            batch.batch_id,
            row_status=str(row.status),
            seq=row.seq,
            entry="missing",
        )


def _needs_entry(row: BatchRow) -> bool:
    """Whether it is an open batch of a submission itself: retries and the seed's have no entry."""
    return row.seq is not None and row.status in OPEN and row.attempt == 1 and row.parent_batch_id is None


BATCH_CHECKS: Final[tuple[BatchCheck, ...]] = (
    completed_while_waiting,
    damaged_row,
    impossible_row,
    ended_otherwise,
    unanswered_create,
    ledger_and_rows,
)
