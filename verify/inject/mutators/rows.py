"""Rows and the ledger, changed by hand."""

from __future__ import annotations

from typing import Any

from embedpipe.lifecycle import Status
from verify.inject.ground import CannotPlant
from verify.inject.mutators.table import plants
from verify.inject.plant import Plant


@plants("B701")
def completed_by_hand(plant: Plant) -> set[str]:
    """The seed's fourth verification, the other way round: the table says COMPLETED, and nothing else does."""
    row = plant.some(Status.PENDING)
    plant.write_row(row.batch_id, status="COMPLETED", completed_by=sorted(plant.executions() or ["nobody"])[0])
    return {row.batch_id}


@plants("B701")
def lost_from_the_catalog(plant: Plant) -> set[str]:
    row = plant.merged()
    plant.drop_from_catalog(plant.held(row)[:1])
    return {row.batch_id}


@plants("B701")
def most_of_it_lost(plant: Plant) -> set[str]:
    """79 % of the vectors missing, and the execution SUCCEEDED."""
    held = {row.batch_id: plant.held(row) for row in plant.rows.values() if row.status is Status.COMPLETED}
    plant.drop_from_catalog([name for ids in held.values() for name in ids[1:]])
    return {batch_id for batch_id, ids in held.items() if len(ids) > 1}


@plants("B702")
def index_says_otherwise(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.PENDING)
    plant.write_index(row.batch_id, "FAILED")
    return {row.batch_id}


@plants("B702")
def not_in_the_index(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    plant.write_index(row.batch_id, None)
    return {row.batch_id}


@plants("B702")
def pending_without_a_name(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    plant.write_row(row.batch_id, provider_batch_id=None)
    return {row.batch_id}


@plants("B702")
def ended_by_nobody(plant: Plant) -> set[str]:
    row = plant.merged()
    plant.write_row(row.batch_id, completed_by=None)
    return {row.batch_id}


@plants("B702")
def open_and_ended(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    plant.write_row(row.batch_id, completed_by=plant.some_execution())
    return {row.batch_id}


@plants("B702")
def intent_with_a_name(plant: Plant) -> set[str]:
    """Its create was answered, and its status went back."""
    row = plant.some(Status.PENDING)
    plant.write_row(row.batch_id, status="INTENT", creating_at=None)
    return {row.batch_id}


@plants("B702")
def unreadable_row(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING, Status.COMPLETED)
    odd: list[dict[str, object]] = [{"attempt": "odd"}, {"status": "DONE"}, {"revision": 1.5}]
    plant.write_row(row.batch_id, **plant.random.choice(odd))
    return {row.batch_id}


@plants("B702")
def failed_by_hand(plant: Plant) -> set[str]:
    """Its vectors are published, and the row says that it gave none."""
    row = plant.merged()
    plant.write_row(row.batch_id, status=plant.random.choice(["FAILED", "EXPIRED", "CANCELLED"]))
    return {row.batch_id}


@plants("B703")
def name_copied(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    other = plant.some(Status.PENDING, Status.COMPLETED, where=lambda found: found.batch_id != row.batch_id)
    plant.write_row(row.batch_id, provider_batch_id=other.provider_batch_id)
    return {row.batch_id, other.batch_id}


@plants("B703")
def name_of_an_expired_batch(plant: Plant) -> set[str]:
    row, other = plant.some(Status.COMPLETED), plant.some(Status.EXPIRED)
    plant.write_row(row.batch_id, provider_batch_id=other.provider_batch_id)
    return {row.batch_id, other.batch_id}


@plants("B703")
def one_name_for_three(plant: Plant) -> set[str]:
    if len(plant.rows) < 3:
        raise CannotPlant("It takes three batches, and this root has fewer.")
    ids = plant.random.sample(sorted(plant.rows), 3)
    names = [plant.rows[batch_id].provider_batch_id for batch_id in ids]
    for batch_id in ids:
        plant.write_row(batch_id, provider_batch_id=names[0])
    return set(ids)


def _creating(plant: Plant, **changes: Any) -> set[str]:
    row = plant.some(Status.PENDING)
    if any(info.key == plant.result_key(row) for info in plant.objects.list(plant.result_key(row))):
        plant.delete(plant.result_key(row))
    for execution in plant.executions():  # it was never listed
        if row.batch_id in plant.get(plant.layout.poll_results_key(execution)).decode():
            plant.touched.add(execution)
            for info in list(plant.objects.list("")):
                if f"/{execution}/" in info.key:
                    plant.delete(info.key)
    plant.write_row(row.batch_id, status="CREATING", provider_batch_id=None, provider_status=None, **changes)
    return {row.batch_id}


@plants("B704")
def create_without_an_answer(plant: Plant) -> set[str]:
    return _creating(plant, creating_at=plant.ago(days=30))


@plants("B704")
def create_of_unknown_age(plant: Plant) -> set[str]:
    return _creating(plant, creating_at=None)


@plants("B704")
def create_of_last_year(plant: Plant) -> set[str]:
    return _creating(plant, creating_at=plant.ago(days=400))


@plants("B705")
def entry_without_a_row(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    plant.drop_row(row.batch_id)
    return {row.batch_id}


@plants("B705")
def row_without_an_entry(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    key = plant.layout.head_key(plant.kind.database, plant.kind.collection)
    head = plant.json(key)
    plant.put_json(key, {**head, "open": [one for one in head["open"] if one["batch_id"] != row.batch_id]})
    return {row.batch_id}


@plants("B705")
def lost_ledger(plant: Plant) -> set[str]:
    plant.delete(plant.layout.head_key(plant.kind.database, plant.kind.collection))
    return {row.batch_id for row in plant.rows.values() if row.status is Status.PENDING}
