"""R: was what a batch left over submitted again, and what was given up? The proof by record is in `proof`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from verify.audit.checks import BatchCheck, Moment, found
from verify.audit.deltas import DeltaSeen
from verify.audit.findings import Finding, shown_ids
from verify.audit.rows import Batch

__all__ = ["BATCH_CHECKS", "without_retry_row"]

EXHAUSTED: Final = "attempts_exhausted"


def without_retry_row(batch: Batch, _: Moment) -> Iterator[Finding]:
    """R102: a terminal batch has records to retry, and no row for them; or names a retry batch that has none."""
    row = batch.known_row
    if row is None or not batch.is_terminal:
        return
    left = [entry.id for entry in (batch.delta.retry or ())] if isinstance(batch.delta, DeltaSeen) else []
    absent = [name for name in row.retry_batch_ids if name not in batch.retry_rows]
    if absent or (left and not row.retry_batch_ids):
        yield found(
            "R102",
            f"table:{batch.batch_id}",
            batch.batch_id,
            *absent,
            retry_batch_ids=list(row.retry_batch_ids),
            without_row=absent,
            **shown_ids(left),
        )


def given_up(batch: Batch, _: Moment) -> Iterator[Finding]:
    """R105: records that were rejected after their last attempt."""
    if not isinstance(batch.delta, DeltaSeen) or not batch.is_terminal:
        return
    gone = [entry for entry in batch.delta.rejected or () if entry.reason == EXHAUSTED]
    if gone:
        yield found(
            "R105",
            f"objects:{batch.delta.key}",
            batch.batch_id,
            tries=max(entry.tries for entry in gone),
            causes=dict(Counter(entry.message for entry in gone).most_common(5)),
            **shown_ids([entry.id for entry in gone]),
        )


BATCH_CHECKS: Final[tuple[BatchCheck, ...]] = (without_retry_row, given_up)
