"""List, decided: which rows one execution looks at, in which order, and how the listing travels.

All open batches that have been handed to the provider, oldest claim first, without a cap: nothing can starve behind others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from embedpipe.errors import CorruptData, InvalidId
from embedpipe.layout import safe_id
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Kind
from embedpipe.wire import Listing, Manifest, ManifestBatch, PendingBatch

LISTED = (Status.PENDING, Status.CREATING)
"""CREATING rows are listed too: only so can a lost create end."""


def pending(rows: Iterable[BatchRow], kind: Kind) -> tuple[BatchRow, ...]:
    """The rows to poll, of this collection only, each once, oldest claim first."""
    listed = {row.batch_id: row for row in rows if row.status in LISTED and row.serves(kind)}
    return tuple(sorted(listed.values(), key=lambda row: (row.claim, row.batch_id)))


def oldest_s(rows: Iterable[BatchRow], now: datetime) -> int:
    """Seconds since the oldest of them was handed to the provider. A time in the future is no time.

    >>> from datetime import UTC
    >>> oldest_s([], datetime(2026, 1, 1, tzinfo=UTC))
    0
    """
    began = (row.creating_at or row.submitted_at for row in rows)
    return max((int((now - at).total_seconds()) for at in began if at is not None and at <= now), default=0)


def manifest(rows: Iterable[BatchRow], kind: Kind, *, execution_id: str, created_at: str) -> Manifest:
    """The listing as it is stored."""
    batches = tuple(
        ManifestBatch(index=index, batch_id=row.batch_id, openai_batch_id=row.provider_batch_id)
        for index, row in enumerate(rows)
    )
    return Manifest(
        execution_id=execution_id,
        created_at=created_at,
        total_batches=len(batches),
        batch_type=kind.batch_type,
        batches=batches,
    )


def check_manifest(stored: Manifest, *, execution_id: str, key: str) -> None:
    """Refuse a stored listing that is not this execution's, or is not whole: `CorruptData`, before anything is polled."""
    problem = _problem(stored, execution_id)
    if problem:
        raise CorruptData(f"{key} {problem}.", hint="Start a new execution: it lists the open batches itself.", key=key)


def _problem(stored: Manifest, execution_id: str) -> str | None:
    if stored.execution_id != execution_id:
        return f"is the listing of execution {ascii(stored.execution_id)[:80]}"
    if stored.total_batches != len(stored.batches):
        return f"says {stored.total_batches} batches and names {len(stored.batches)}"
    try:
        for batch in stored.batches:
            safe_id(batch.batch_id, "batch_id")
    except InvalidId as error:
        return f"names what is no batch: {error.message.rstrip('.')}"
    counted = Counter(batch.batch_id for batch in stored.batches)
    doubled = next((name for name, count in counted.items() if count > 1), None)
    return None if doubled is None else f"names batch {ascii(doubled)[:80]} more than once"


def listing(stored: Manifest, *, inline_max: int, key: str, bucket: str) -> Listing:
    """The listing as the workflow state carries it: inline while it is short, else by its manifest."""
    inline = len(stored.batches) <= inline_max
    return Listing(
        total_batches=len(stored.batches),
        batch_indices=tuple(batch.index for batch in stored.batches) if inline else (),
        pending_batches=tuple(
            PendingBatch(batch_id=batch.batch_id, openai_batch_id=batch.openai_batch_id) for batch in stored.batches
        )
        if inline
        else None,
        use_s3=not inline,
        manifest_s3_key=key,
        manifest_s3_bucket=bucket,
        execution_id=stored.execution_id,
    )
