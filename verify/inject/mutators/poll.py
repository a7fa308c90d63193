"""Poll results and listings, damaged."""

from __future__ import annotations

from typing import Any

from embedpipe.lifecycle import Status
from verify.inject.mutators.table import plants
from verify.inject.plant import Plant


@plants("P201")
def lost_register(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED)
    plant.delete(plant.result_key(row))
    return {row.batch_id}


@plants("P201")
def lost_register_of_an_expired_batch(plant: Plant) -> set[str]:
    row = plant.some(Status.EXPIRED)
    plant.delete(plant.result_key(row))
    return {row.batch_id}


@plants("P201")
def lost_register_of_an_open_batch(plant: Plant) -> set[str]:
    row = plant.some(Status.PENDING)
    quoting = [
        name for name in plant.executions() if row.batch_id.encode() in plant.get(plant.layout.poll_results_key(name))
    ]
    plant.touched.update(quoting)  # without them, nobody could say that it was ever polled
    plant.delete(plant.result_key(row))
    return {row.batch_id}


@plants("P202")
def empty_register(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.PENDING)
    plant.put(plant.result_key(row), b"")
    return {row.batch_id}


@plants("P202")
def torn_register(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.EXPIRED)
    data = plant.get(plant.result_key(row))
    plant.put(plant.result_key(row), data[: plant.random.randrange(1, len(data) - 1)])
    return {row.batch_id}


@plants("P202")
def misshapen_register(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.PENDING)
    odd = [b"[]", b"null", b'"x"', b"[" * 100_000, b'{"batch_id": 7}', b'{"batch_id":"x","action":"invented"}']
    plant.put(plant.result_key(row), plant.random.choice(odd))
    return {row.batch_id}


@plants("P203")
def swapped_register(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED)
    other = plant.some(Status.COMPLETED, where=lambda found: found.batch_id != row.batch_id)
    plant.put(plant.result_key(row), plant.get(plant.result_key(other)))
    return {row.batch_id}


@plants("P203")
def renamed_in_its_register(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.PENDING)
    plant.edit(plant.result_key(row), batch_id="another")
    return {row.batch_id}


@plants("P203")
def element_without_a_name(plant: Plant) -> set[str]:
    """The seed's first verification."""
    row = plant.some(Status.COMPLETED)
    key = plant.layout.poll_results_key(plant.execution_of(row))
    elements = plant.json(key)
    for element in elements:
        if element["batch_id"] == row.batch_id:
            del element["batch_id"]
    plant.put_json(key, elements)
    return {row.batch_id}


def _elements(plant: Plant) -> tuple[str, list[dict[str, Any]]]:
    key = plant.layout.poll_results_key(plant.some_execution())
    return key, plant.json(key)


@plants("P204")
def dropped_element(plant: Plant) -> set[str]:
    key, elements = _elements(plant)
    gone = elements.pop(plant.random.randrange(len(elements)))
    plant.put_json(key, elements)
    return {gone["batch_id"]}


@plants("P204")
def doubled_element(plant: Plant) -> set[str]:
    key, elements = _elements(plant)
    one = plant.random.choice(elements)
    plant.put_json(key, [*elements, one])
    return {one["batch_id"]}


@plants("P204")
def foreign_element(plant: Plant) -> set[str]:
    key, elements = _elements(plant)
    plant.put_json(key, [*elements, {**elements[0], "batch_id": "of-nobody", "action": "wait"}])
    return {"of-nobody"}


@plants("P204")
def element_that_differs(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED)
    key = plant.layout.poll_results_key(plant.execution_of(row))
    changes: dict[str, Any] = plant.random.choice(
        [{"embedding_count": 77}, {"delta_key": None}, {"batch_status": "cancelled"}, {"retry_count": 9}]
    )
    elements = [{**one, **changes} if one["batch_id"] == row.batch_id else one for one in plant.json(key)]
    plant.put_json(key, elements)
    return {row.batch_id}


@plants("P204")
def another_hash_of_the_delta(plant: Plant) -> set[str]:
    row = plant.merged()
    key = plant.layout.poll_results_key(plant.execution_of(row))
    other = {"delta_sha256": "0" * 64}
    plant.put_json(key, [{**one, **other} if one["batch_id"] == row.batch_id else one for one in plant.json(key)])
    return {row.batch_id}


@plants("P204")
def register_that_went_back(plant: Plant) -> set[str]:
    row = plant.some(Status.EXPIRED)
    plant.edit(plant.result_key(row), action="wait", reason="running")
    return {row.batch_id}


@plants("P205")
def lost_poll_results(plant: Plant) -> set[str]:
    execution = plant.some_execution()
    listed = plant.json(plant.layout.manifest_key(execution))["batches"]
    plant.delete(plant.layout.poll_results_key(execution))
    return {batch["batch_id"] for batch in listed}


@plants("P205")
def torn_poll_results(plant: Plant) -> set[str]:
    key, elements = _elements(plant)
    data = plant.get(key)
    plant.put(key, data[: plant.random.randrange(1, len(data))])
    return {element["batch_id"] for element in elements}


@plants("P205")
def poll_results_of_another_shape(plant: Plant) -> set[str]:
    key, elements = _elements(plant)
    plant.put(key, plant.random.choice([b"{}", b"null", b"", b"7", b"[" * 200_000, b'[{"a": 1}']))
    return {element["batch_id"] for element in elements}


def _manifest(plant: Plant) -> tuple[str, dict[str, Any]]:
    key = plant.layout.manifest_key(plant.some_execution())
    return key, plant.json(key)


@plants("P206")
def miscounted_manifest(plant: Plant) -> set[str]:
    key, manifest = _manifest(plant)
    plant.put_json(key, {**manifest, "total_batches": manifest["total_batches"] + 1})
    return set()


@plants("P206")
def gap_in_the_indices(plant: Plant) -> set[str]:
    key, manifest = _manifest(plant)
    manifest["batches"][-1]["index"] += 3
    plant.put_json(key, manifest)
    return set()


@plants("P206")
def another_list_of_items(plant: Plant) -> set[str]:
    execution = plant.some_execution()
    key = plant.layout.items_key(execution)
    gone = plant.json(key)[0]
    plant.put_json(key, plant.json(key)[1:])
    return {gone["batch_id"]}


@plants("P206")
def torn_manifest(plant: Plant) -> set[str]:
    key, _ = _manifest(plant)
    plant.put(key, plant.get(key)[:40])
    return set()


@plants("P206")
def lost_manifest(plant: Plant) -> set[str]:
    """The listing is gone, and the plain array of the same batches is there."""
    plant.delete(plant.layout.manifest_key(plant.some_execution()))
    return set()


@plants("P206")
def items_of_another_provider_batch(plant: Plant) -> set[str]:
    execution = plant.some_execution()
    key = plant.layout.items_key(execution)
    first, *rest = plant.json(key)
    plant.put_json(key, [{**first, "openai_batch_id": "batch_of_another"}, *rest])
    return {first["batch_id"]}


@plants("P207")
def stray_register(plant: Plant) -> set[str]:
    plant.put_json(plant.layout.result_key("stray"), {"batch_id": "stray", "action": "wait"})
    return {"stray"}


@plants("P207")
def stray_copy(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED)
    plant.put_json(plant.layout.result_key("copy"), {**plant.json(plant.result_key(row)), "batch_id": "copy"})
    return {"copy"}


@plants("P207")
def stray_terminal(plant: Plant) -> set[str]:
    value = {"batch_id": "old", "action": "handle_failure", "batch_status": "expired"}
    plant.put_json(plant.layout.result_key("old"), value)
    return {"old"}
