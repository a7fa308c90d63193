"""What the provider says, changed behind the pipeline's back."""

from __future__ import annotations

from datetime import timedelta

from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, RequestCounts
from verify.inject.ground import CannotPlant
from verify.inject.mutators.records import lost_vectors
from verify.inject.mutators.table import plants
from verify.inject.plant import Plant


def _hide(plant: Plant, row: BatchRow) -> None:
    if row.provider_batch_id is None:
        raise CannotPlant(f"It takes a batch that the provider has, and {row.batch_id} never got there.")
    plant.provider.hide(row.provider_batch_id)


@plants("O101")
def unknown_to_the_provider(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    _hide(plant, row)
    return {row.batch_id}


@plants("O101")
def ended_and_unknown_to_the_provider(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED)
    _hide(plant, row)
    return {row.batch_id}


@plants("O101")
def another_account(plant: Plant) -> set[str]:
    for row in plant.rows.values():
        _hide(plant, row)
    return set(plant.rows)


def _ended(plant: Plant, status: str) -> set[str]:
    row = plant.some(Status.PENDING)
    ended_at = plant.clock.now() - timedelta(days=1)
    plant.provider.change(row.provider_batch_id, status=status, ended_at=ended_at)
    return {row.batch_id}


@plants("O102")
def completed_and_pending(plant: Plant) -> set[str]:
    return _ended(plant, "completed")


@plants("O102")
def expired_and_pending(plant: Plant) -> set[str]:
    return _ended(plant, "expired")


@plants("O102")
def failed_and_pending(plant: Plant) -> set[str]:
    return _ended(plant, "failed")


def _badly(plant: Plant, status: str) -> set[str]:
    row = plant.merged()
    plant.provider.change(row.provider_batch_id, status=status)
    lost_vectors(plant, row)
    return {row.batch_id}


@plants("O103")
def failed_and_completed(plant: Plant) -> set[str]:
    return _badly(plant, "failed")


@plants("O103")
def expired_and_completed(plant: Plant) -> set[str]:
    return _badly(plant, "expired")


@plants("O103")
def cancelled_and_completed(plant: Plant) -> set[str]:
    return _badly(plant, "cancelled")


@plants("O104")
def counts_ahead_of_lines(plant: Plant) -> set[str]:
    row = plant.merged()
    counts = plant.provider.change(row.provider_batch_id).counts
    more = (counts.total if counts else 0) + 6
    plant.provider.change(row.provider_batch_id, counts=RequestCounts(total=more, completed=more))
    return {row.batch_id}


@plants("O104")
def no_output_file(plant: Plant) -> set[str]:
    row = plant.merged()
    plant.provider.change(row.provider_batch_id, output_file_id=None)
    return {row.batch_id}


@plants("O104")
def torn_output_file(plant: Plant) -> set[str]:
    row = plant.merged()
    before = plant.provider.change(row.provider_batch_id)
    if before.output_file_id is None:
        raise CannotPlant("It takes a batch with an output file, and this one has none.")
    data = b"".join(plant.provider.content(before.output_file_id))
    plant.provider.write_file(before.output_file_id, data[: len(data) // 2])
    return {row.batch_id}


def _file(plant: Plant, provider_batch_id: str | None) -> tuple[str, bytes]:
    batch = plant.provider.change(provider_batch_id)
    if batch.output_file_id is None:
        raise CannotPlant("It takes a batch with an output file, and this one has none.")
    return batch.output_file_id, b"".join(plant.provider.content(batch.output_file_id))


@plants("O105")
def doubled_line(plant: Plant) -> set[str]:
    row = plant.merged()
    file_id, data = _file(plant, row.provider_batch_id)
    plant.provider.write_file(file_id, data + data.splitlines(keepends=True)[0])
    return {row.batch_id}


@plants("O105")
def unknown_line(plant: Plant) -> set[str]:
    row = plant.merged()
    file_id, data = _file(plant, row.provider_batch_id)
    name = plant.held(row)[0]
    line = next(line for line in data.splitlines(keepends=True) if f'"{name}"'.encode() in line)
    plant.provider.write_file(file_id, data + line.replace(f'"{name}"'.encode(), b'"nobody"'))
    return {row.batch_id}


@plants("O105")
def renamed_line(plant: Plant) -> set[str]:
    row = plant.merged()
    file_id, data = _file(plant, row.provider_batch_id)
    plant.provider.write_file(file_id, data.replace(f'"{plant.held(row)[0]}"'.encode(), b'"nobody"'))
    return {row.batch_id}


def _second(plant: Plant, batch_id: str) -> None:
    one = next(batch for batch in plant.provider.list() if batch.metadata.get("batch_id"))
    metadata = {**one.metadata, "batch_id": batch_id}
    plant.provider.add(metadata=metadata, created_at=one.created_at)


@plants("O106")
def paid_twice(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING, Status.COMPLETED)
    _second(plant, row.batch_id)
    return {row.batch_id}


@plants("O106")
def paid_for_an_ended_batch(plant: Plant) -> set[str]:
    row = plant.some(Status.EXPIRED)
    _second(plant, row.batch_id)
    return {row.batch_id}


@plants("O106")
def paid_for_nobody(plant: Plant) -> set[str]:
    _second(plant, "of-nobody")
    return {"of-nobody"}


def _weeks_ago(plant: Plant, days: float) -> set[str]:
    row = plant.some(Status.PENDING)
    ended_at = plant.clock.now() - timedelta(days=days)
    plant.provider.change(row.provider_batch_id, status="completed", ended_at=ended_at, output_file_id="file-x")
    return {row.batch_id}


@plants("O107")
def expires_tomorrow(plant: Plant) -> set[str]:
    return _weeks_ago(plant, 29)


@plants("O107")
def expires_within_the_hour(plant: Plant) -> set[str]:
    return _weeks_ago(plant, 29.99)


@plants("O107")
def has_expired(plant: Plant) -> set[str]:
    return _weeks_ago(plant, 40)
