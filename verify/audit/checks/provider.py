"""O: does the provider's own word on each batch agree with the row, and does every request have one answer?

A batch is found by the metadata that our creates carry, else by the name in the row. Nothing is created, cancelled or
computed for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from embedpipe.lifecycle import PROVIDER_PHASES, Phase, Status
from embedpipe.model import BatchRow
from verify.audit.checks import BatchCheck, Moment, found
from verify.audit.deltas import DeltaSeen
from verify.audit.entries import Provided, only
from verify.audit.findings import Finding, shown_ids
from verify.audit.objects import Unreadable
from verify.audit.rows import Batch

__all__ = ["BATCH_CHECKS", "Answers", "answers_findings", "named_findings"]

FILE_KEPT_S: Final = 30 * 24 * 3600.0
"""[openai] How long the provider keeps a file."""
EXPIRES_SOON_S: Final = 2 * 24 * 3600.0
"""[ours] How long before that somebody has to act."""
ENDED_BADLY: Final = frozenset({"failed", "expired", "cancelled"})


def has_ended(status: str) -> bool:
    """Whether the provider is done with a batch."""
    return PROVIDER_PHASES.get(status) is Phase.ENDED


def named_findings(
    provider_batch_id: str, rows: Sequence[BatchRow], seen: Provided | None, moment: Moment
) -> Iterator[Finding]:
    """O101 and O102 of the rows that name one provider batch. `seen` is None where the provider answers 404."""
    for row in rows:
        location = f"provider:{provider_batch_id}"
        if seen is None:
            if moment.is_old(row.creating_at or row.submitted_at):
                yield found(
                    "O101",
                    location,
                    row.batch_id,
                    openai_batch_id=provider_batch_id,
                    provider=404,
                    row_status=str(row.status),
                )
        elif has_ended(seen.status) and row.status is Status.PENDING and moment.is_old(seen.ended_at or None):
            yield found(
                "O102",
                location,
                row.batch_id,
                provider_status=seen.status,
                row_status=str(row.status),
                age_s=round(moment.age_s(seen.ended_at) or 0),
            )


UNNAMED: Final = frozenset({Status.INTENT, Status.CREATING})


def orphan(batch: Batch, moment: Moment) -> Iterator[Finding]:
    """O106: a batch of ours that no open row names."""
    row = batch.known_row
    if isinstance(batch.row, Unreadable) or (row is not None and row.status in UNNAMED):
        return  # a search is still to find it
    for seen in only(batch.entries, Provided):
        if row is None and not moment.is_old(seen.created_at):
            continue
        if row is None or row.provider_batch_id != seen.openai_batch_id:
            yield found(
                "O106",
                f"provider:{seen.openai_batch_id}",
                batch.batch_id,
                provider={"id": seen.openai_batch_id, "status": seen.status, "batch_id": batch.batch_id},
                row={"status": str(row.status), "openai_batch_id": row.provider_batch_id} if row else "missing",
            )


def expiring_file(batch: Batch, moment: Moment) -> Iterator[Finding]:
    """O107: its results lie at the provider only, and not for much longer."""
    row = batch.known_row
    if row is None or not batch.is_open or batch.terminal_result is not None:
        return
    for seen in only(batch.entries, Provided):
        age_s = moment.age_s(seen.ended_at or None)
        if seen.output_file_id and age_s is not None and age_s > FILE_KEPT_S - EXPIRES_SOON_S:
            yield found(
                "O107",
                f"provider:{seen.openai_batch_id}",
                batch.batch_id,
                output_file_id=seen.output_file_id,
                ended_at=seen.ended_at,
                expires_in_s=round(FILE_KEPT_S - age_s),
                delta="none",
            )


BATCH_CHECKS: Final[tuple[BatchCheck, ...]] = (orphan, expiring_file)


# --- its files -----------------------------------------------------------------------------------------------------


@attrs.define(kw_only=True)
class Answers:
    """The lines of a batch's output and error files."""

    usable: int = 0
    ids: Counter[str] = attrs.field(factory=Counter)
    files_gone: int = 0


def answers_findings(batch: Batch, seen: Provided, answers: Answers) -> Iterator[Finding]:
    """O104 and O105: counts, lines and requests agree, but for what the pipeline has submitted again or rejected."""
    location = f"provider:{seen.openai_batch_id}"
    if seen.completed > answers.usable:
        yield found(
            "O104",
            location,
            batch.batch_id,
            request_counts={"completed": seen.completed, "failed": seen.failed, "total": seen.total},
            usable_lines=answers.usable,
            output_file_id=seen.output_file_id,
        )
    wanted = _requested(batch)
    if wanted is None:
        return
    settled = _settled(batch)
    missing = [name for name in wanted if name not in answers.ids and name not in settled]
    doubled = [name for name, count in answers.ids.items() if count > 1]
    unknown = [name for name in answers.ids if name not in wanted]
    if missing or doubled or unknown:
        yield found(
            "O105",
            location,
            batch.batch_id,
            requests=len(wanted),
            lines=answers.ids.total(),
            missing=shown_ids(missing) if missing else None,
            doubled=shown_ids(doubled) if doubled else None,
            unknown=shown_ids(unknown) if unknown else None,
        )


def _requested(batch: Batch) -> frozenset[str] | None:
    column = getattr(batch.records, "column", None)
    return None if column is None else frozenset(str(name) for name in column("id").to_pylist())


def _settled(batch: Batch) -> frozenset[str]:
    """Records that the delta accounts for without an answer."""
    if not isinstance(batch.delta, DeltaSeen):
        return frozenset()
    rejected, retry = batch.delta.rejected or (), batch.delta.retry or ()
    return frozenset([*(entry.id for entry in rejected), *(entry.id for entry in retry)])
