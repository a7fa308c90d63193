"""Records, lost."""

from __future__ import annotations

import hashlib
from typing import Any

from embedpipe.lifecycle import TERMINAL, Status
from embedpipe.model import BatchRow, RequestCounts
from embedpipe.wire import index_keys
from verify.inject.arrow import rewritten, without
from verify.inject.mutators.table import plants
from verify.inject.plant import Plant


def lost_vectors(plant: Plant, row: BatchRow) -> None:
    """All that the catalog holds of one batch is gone, from the collection, too."""
    plant.drop_from_catalog(plant.held(row))


@plants("R101")
def record_in_no_part_of_its_delta(plant: Plant) -> set[str]:
    row = plant.merged()
    gone = plant.held(row)[0]
    plant.change_delta(row, lambda rows: without(rows, [gone]))
    plant.drop_from_catalog([gone])
    return {row.batch_id}


@plants("R101")
def retry_without_its_record(plant: Plant) -> set[str]:
    """The retry's row is there, and its record file lacks what it is to embed."""
    row = plant.some(*TERMINAL, where=lambda found: _retried(plant, found))
    retry = plant.rows[row.retry_batch_ids[0]]
    gone = plant.held(retry)
    provider = plant.provider
    _submit_less(plant, retry.batch_id, gone)
    plant.change_delta(retry, lambda rows: without(rows, gone))
    plant.write_row(retry.batch_id, request_count=(retry.request_count or 0) - len(gone))
    plant.edit(plant.result_key(retry), embedding_count=(retry.request_count or 0) - len(gone))
    plant.quote(retry)
    provider.change(retry.provider_batch_id, output_file_id=None, counts=RequestCounts())
    plant.drop_from_catalog(gone)
    return {row.batch_id}


def _retried(plant: Plant, row: BatchRow) -> bool:
    """Whether its only retry has been merged."""
    retries = [plant.rows[name] for name in row.retry_batch_ids if name in plant.rows]
    return len(retries) == 1 and retries[0].status is Status.COMPLETED and bool(plant.held(retries[0]))


@plants("R101")
def rejection_that_vanished(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, where=lambda found: _rejects(plant, found.batch_id))
    _empty_part(plant, row, plant.layout.rejected_file, "rejected_count")
    return {row.batch_id}


def _rejects(plant: Plant, batch_id: str) -> bool:
    return bool(plant.json(plant.layout.result_key(batch_id)).get("rejected_count"))


def _empty_part(plant: Plant, row: BatchRow, name: str, count: str) -> None:
    prefix = plant.delta_key(row)
    plant.put(prefix + name, b"")
    key = prefix + plant.layout.delta_file
    delta = plant.json(key)
    for entry in delta["files"]:
        if entry["name"] == name:
            entry.update(sha256=hashlib.sha256(b"").hexdigest(), size_bytes=0)
    plant.put_json(key, {**delta, count: 0})
    plant.trust_delta(row, key)


def _submit_less(plant: Plant, batch_id: str, ids: list[str]) -> None:
    key = plant.layout.records_key(batch_id)
    data = rewritten(plant.get(key), lambda rows: without(rows, ids))
    plant.put(key, data)
    plant.write_row(batch_id, records_sha256=hashlib.sha256(data).hexdigest())


@plants("R102")
def lost_retry_row(plant: Plant) -> set[str]:
    row = plant.some(*TERMINAL, where=lambda found: bool(found.retry_batch_ids))
    plant.drop_row(row.retry_batch_ids[0])
    return {row.batch_id}


@plants("R102")
def retry_never_named(plant: Plant) -> set[str]:
    row = plant.some(*TERMINAL, where=lambda found: bool(found.retry_batch_ids))
    plant.write_row(row.batch_id, retry_batch_ids=None)
    return {row.batch_id}


@plants("R102")
def retry_under_another_name(plant: Plant) -> set[str]:
    row = plant.some(*TERMINAL, where=lambda found: bool(found.retry_batch_ids))
    plant.write_row(row.batch_id, retry_batch_ids=["nobody"])
    return {row.batch_id}


def _with_claims(plant: Plant, ids: list[str], seq: int, attempt: int) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    def older(rows: Any) -> Any:
        hit = pc.is_in(rows.column("id"), value_set=pa.array(ids, pa.string()))
        new_seq = pc.if_else(hit, pa.scalar(seq, pa.int64()), rows.column("seq"))
        new_attempt = pc.if_else(hit, pa.scalar(attempt, pa.int32()), rows.column("attempt"))
        rows = rows.set_column(1, rows.schema.field(1), new_seq)
        return rows.set_column(2, rows.schema.field(2), new_attempt)

    plant.change_catalog(older)


@plants("R103")
def older_claim_published(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, where=lambda found: (found.seq or 0) > 1 and bool(plant.held(found)))
    _with_claims(plant, plant.held(row), (row.seq or 0) - 1, 1)
    return {row.batch_id}


@plants("R103")
def claim_of_nobody_published(plant: Plant) -> set[str]:
    row = plant.merged()
    _with_claims(plant, plant.held(row), 0, 1)
    return {row.batch_id}


@plants("R103")
def earlier_attempt_published(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, where=lambda found: found.attempt > 1 and bool(plant.held(found)))
    _with_claims(plant, plant.held(row), row.seq or 0, 1)
    return {row.batch_id}


def _second_row(plant: Plant, name: str, status: Status, *, named: bool) -> set[str]:
    """Another row for the records of an open batch, as if somebody had submitted them by hand."""
    row = plant.some(Status.PENDING)
    layout = plant.layout
    item = plant.item(row.batch_id)
    second = plant.provider.add().id if named else None
    plant.put(layout.records_key(name), plant.get(layout.records_key(row.batch_id)))
    fresh = {
        **item,
        layout.pk: layout.pk_value.format(batch_id=name),
        "batch_id": name,
        **index_keys(name, row.batch_type, status, layout),
        layout.attributes.get("status", "status"): layout.status_word(status),
        layout.attributes.get("provider_batch_id", "provider_batch_id"): second,
        "parent_batch_id": "somebody",
    }
    plant.write_item({key: value for key, value in fresh.items() if value is not None}, name)
    return {row.batch_id, name}


@plants("R104")
def second_batch_pending(plant: Plant) -> set[str]:
    return _second_row(plant, "second", Status.PENDING, named=True)


@plants("R104")
def second_batch_intended(plant: Plant) -> set[str]:
    return _second_row(plant, "a-second", Status.INTENT, named=False)


@plants("R104")
def second_batch_in_part(plant: Plant) -> set[str]:
    ids = _second_row(plant, "zz-second", Status.PENDING, named=True)
    (batch_id,) = ids - {"zz-second"}
    _submit_less(plant, "zz-second", sorted(record.id for record in plant.records(plant.rows[batch_id]))[1:])
    return ids
