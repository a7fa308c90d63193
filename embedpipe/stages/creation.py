"""Create, decided: the row of a ledger entry, and what each answer of the provider changes in it."""

from __future__ import annotations

from datetime import datetime

from embedpipe.errors import InvalidInput
from embedpipe.lifecycle import Event, Status, advance
from embedpipe.limits import UTF8_BYTES_MAX, Limits
from embedpipe.model import BatchRow, Kind, Record
from embedpipe.wire import OpenRoot, parse_time


def may_exceed_tokens(text: str, limits: Limits) -> bool:
    """Whether the text has more bytes than tokens are allowed, so that only counting can tell.

    >>> may_exceed_tokens("a" * 9_000, Limits()), may_exceed_tokens("a" * 8_000, Limits())
    (True, False)
    """
    return len(text) * UTF8_BYTES_MAX > limits.tokens_per_input < len(text.encode())


def check_tokens(record: Record, tokens: int, limits: Limits) -> None:
    """Refuse a text that the provider would refuse after hours in its queue."""
    if tokens > limits.tokens_per_input:
        place = f" ({record.source})" if record.source else ""
        raise InvalidInput(
            f"Record {ascii(record.id)[:80]}{place}: its text has {tokens} tokens; at most {limits.tokens_per_input} "
            "are embedded.",
            hint="Split the text into passages, each a record of its own.",
            record_id=record.id,
        )


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
