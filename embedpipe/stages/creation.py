"""Create, decided: the row of a ledger entry, and what each answer of the provider changes in it."""

from __future__ import annotations

from datetime import datetime

from embedpipe.lifecycle import Event, Status, advance
from embedpipe.model import BatchRow, Kind
from embedpipe.wire import OpenRoot, parse_time


def row_of(root: OpenRoot, kind: Kind) -> BatchRow:
    """The row of a ledger entry, before its batch is created."""
    return BatchRow(
        batch_id=root.batch_id,
        batch_type=kind.batch_type,
        status=Status.INTENT,
        submitted_at=parse_time(root.submitted_at, "submitted_at"),
        request_count=root.request_count,
        request_sha256=root.request_sha256,
        records_sha256=root.records_sha256,
        seq=root.seq,
        attempt=1,
        collection=kind.collection,
        database=kind.database,
        model=root.model,
        dimensions=root.dimensions,
    )


def claim_changes(now: datetime) -> dict[str, object]:
    """INTENT to CREATING: whoever makes this change calls create, once."""
    return {"status": advance(Status.INTENT, Event.CLAIM_CREATE), "creating_at": now}


def created_changes(provider_batch_id: str, provider_status: str) -> dict[str, object]:
    """CREATING to PENDING: the provider has the batch."""
    return {
        "status": advance(Status.CREATING, Event.CREATED),
        "provider_batch_id": provider_batch_id,
        "provider_status": provider_status,
        "not_before": None,
        "reason": None,
    }


def refused_changes(reason: str, not_before: datetime | None, *, forget_input: bool = False) -> dict[str, object]:
    """CREATING back to INTENT: the provider said no, so nothing exists there."""
    changes: dict[str, object] = {
        "status": advance(Status.CREATING, Event.REFUSED),
        "creating_at": None,
        "reason": reason,
        "not_before": not_before,
    }
    return {**changes, "input_file_id": None} if forget_input else changes
