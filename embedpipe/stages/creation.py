"""Create, decided: the row of a ledger entry, and what each answer of the provider changes in it."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from embedpipe.errors import CollectionMismatch, CorruptData, InvalidInput
from embedpipe.lifecycle import Event, Status, advance
from embedpipe.limits import PAUSE_MAX_S, UTF8_BYTES_MAX, Limits, Policy, pause_s
from embedpipe.model import BatchRow, EmbeddingModel, Kind, ProviderBatch, Record
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
    """The row of a ledger entry, before its batch is created. A time that is none is damage, and costs only the time."""
    return BatchRow(
        batch_id=root.batch_id,
        batch_type=kind.batch_type,
        status=Status.INTENT,
        submitted_at=_time_of(root),
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


def _time_of(root: OpenRoot) -> datetime | None:
    try:
        return parse_time(root.submitted_at, "submitted_at")
    except CorruptData:
        return None


def adopted_row(row: BatchRow, batch: ProviderBatch) -> BatchRow:
    """The row of an entry whose batch the provider has already: the row was lost, and not its batch."""
    return attrs.evolve(row, status=Status.PENDING, provider_batch_id=batch.id, provider_status=batch.status)


def held_back(not_before: datetime | None, now: datetime) -> bool:
    """Whether it is too early to create a batch again. A time later than any pause of ours is that of a wrong clock.

    >>> from datetime import UTC
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> [held_back(now + timedelta(seconds=wait_s), now) for wait_s in (0, 1, 3_600, 3_601)]
    [False, True, True, False]
    """
    return not_before is not None and now < not_before <= now + timedelta(seconds=PAUSE_MAX_S)


def next_try(now: datetime, advice_s: float | None, policy: Policy) -> datetime:
    """When a batch that was refused for capacity is created again: the provider's advice counts, within reason."""
    return now + timedelta(seconds=pause_s(advice_s) or pause_s(policy.capacity_wait_s))


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


def check_collection(kind: Kind, model: EmbeddingModel, made_with: tuple[str, int]) -> None:
    """Refuse a model or dimension that differs from what the collection, or an open batch of it, was made with."""
    if made_with != (model.name, model.dimensions):
        raise CollectionMismatch(
            f"Collection '{kind.collection}' of database '{kind.database}' is made with {made_with[0]}, {made_with[1]} "
            f"dimensions, and the configuration says {model.name}, {model.dimensions}.",
            hint="Use that model, or another kind or root for the new one.",
        )
