"""Deltas, damaged or dropped."""

from __future__ import annotations

from embedpipe.lifecycle import Status
from verify.inject.arrow import without
from verify.inject.mutators.table import plants
from verify.inject.plant import Plant


@plants("D401")
def lost_delta(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.EXPIRED)
    plant.delete(plant.delta_key(row) + plant.layout.delta_file)
    for name in (plant.layout.vectors_file, plant.layout.rejected_file, plant.layout.retry_file):
        plant.delete(plant.delta_key(row) + name)
    return {row.batch_id}


@plants("D401")
def lost_delta_json(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED)
    plant.delete(plant.delta_key(row) + plant.layout.delta_file)
    return {row.batch_id}


@plants("D401")
def no_delta_named(plant: Plant) -> set[str]:
    """A result without a delta, everywhere that it is quoted."""
    row = plant.some(Status.COMPLETED)
    plant.edit(plant.result_key(row), delta_key=None, delta_sha256=None)
    plant.quote(row)
    return {row.batch_id}


@plants("D401")
def anothers_delta(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED)
    key = plant.delta_key(row) + plant.layout.delta_file
    plant.edit(key, batch_id="another")
    plant.trust_delta(row, key)
    return {row.batch_id}


@plants("D402")
def changed_byte(plant: Plant) -> set[str]:
    row = plant.merged()
    key = plant.delta_key(row) + plant.layout.vectors_file
    data = bytearray(plant.get(key))
    data[plant.random.randrange(len(data))] ^= 0xFF
    plant.put(key, bytes(data))
    return {row.batch_id}


@plants("D402")
def torn_vectors(plant: Plant) -> set[str]:
    row = plant.merged()
    key = plant.delta_key(row) + plant.layout.vectors_file
    data = plant.get(key)
    plant.put(key, data[: plant.random.randrange(len(data))])
    return {row.batch_id}


@plants("D402")
def garbage_in_delta_json(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.EXPIRED)
    plant.put(plant.delta_key(row) + plant.layout.delta_file, plant.random.choice([b"{", b"", b"null", b"{}"]))
    return {row.batch_id}


@plants("D402")
def lost_file_of_a_delta(plant: Plant) -> set[str]:
    row = plant.some(Status.COMPLETED, Status.EXPIRED)
    names = [plant.layout.vectors_file, plant.layout.rejected_file, plant.layout.retry_file]
    plant.delete(plant.delta_key(row) + plant.random.choice(names))
    return {row.batch_id}


@plants("D403")
def other_count_in_the_row(plant: Plant) -> set[str]:
    row = plant.merged()
    plant.write_row(row.batch_id, request_count=(row.request_count or 0) + 1)
    return {row.batch_id}


@plants("D403")
def other_count_in_delta_json(plant: Plant) -> set[str]:
    row = plant.merged()
    key = plant.delta_key(row) + plant.layout.delta_file
    plant.edit(key, embedding_count=plant.json(key)["embedding_count"] + 1)
    plant.trust_delta(row, key)
    return {row.batch_id}


@plants("D403")
def vector_taken_out_of_a_merged_delta(plant: Plant) -> set[str]:
    row = plant.merged()
    gone = plant.held(row)[0]
    plant.change_delta(row, lambda rows: without(rows, [gone]))
    return {row.batch_id}


@plants("D404")
def delta_in_no_chunk(plant: Plant) -> set[str]:
    """Dropped before the merge, and the batch completed all the same."""
    row = plant.merged()
    _drop_from_chunks(plant, plant.delta_key(row))
    plant.drop_from_catalog(plant.held(row))
    return {row.batch_id}


@plants("D404")
def chunks_without_it(plant: Plant) -> set[str]:
    row = plant.merged()
    _drop_from_chunks(plant, plant.delta_key(row))
    return {row.batch_id}


@plants("D404")
def chunk_that_was_never_merged(plant: Plant) -> set[str]:
    """Its chunks are gone altogether."""
    row = plant.merged()
    plant.put_json(plant.layout.chunks_key(plant.execution_of(row)), [])
    plant.drop_from_catalog(plant.held(row))
    return {row.batch_id}


def _drop_from_chunks(plant: Plant, delta_key: str) -> None:
    before, _, after = plant.layout.chunks.partition("{execution_id}")
    for info in list(plant.objects.list(before)):
        if not info.key.endswith(after):
            continue
        chunks = plant.json(info.key)
        for chunk in chunks:
            chunk["deltas"] = [ref for ref in chunk["deltas"] if ref["delta_key"] != delta_key]
        plant.put_json(info.key, chunks)
