"""Published versions and their journal, damaged."""

from __future__ import annotations

from typing import Any

from embedpipe.lifecycle import Status
from verify.inject.arrow import without
from verify.inject.ground import CannotPlant
from verify.inject.mutators.table import plants
from verify.inject.plant import Plant


def _published(plant: Plant) -> str:
    """The version that is. `CannotPlant` where none is."""
    return str(plant.pointer["version"])


@plants("S501")
def lost_pointer(plant: Plant) -> set[str]:
    _published(plant)
    plant.delete(plant.layout.latest_key(plant.kind.database))
    return set()


@plants("S501")
def lost_snapshot(plant: Plant) -> set[str]:
    plant.delete(plant.snapshot_prefix + plant.layout.snapshot_file)
    return set()


@plants("S501")
def lost_catalog(plant: Plant) -> set[str]:
    plant.delete(plant.snapshot_prefix + plant.layout.catalog_file)
    return set()


@plants("S501")
def torn_pointer(plant: Plant) -> set[str]:
    _published(plant)
    plant.put(plant.layout.latest_key(plant.kind.database), b'{"version": "6-')
    return set()


@plants("S502")
def changed_catalog(plant: Plant) -> set[str]:
    key = plant.snapshot_prefix + plant.layout.catalog_file
    data = bytearray(plant.get(key))
    data[plant.random.randrange(len(data))] ^= 0x55
    plant.put(key, bytes(data))
    return set()


@plants("S502")
def changed_snapshot(plant: Plant) -> set[str]:
    plant.edit(plant.snapshot_prefix + plant.layout.snapshot_file, count=1_000)
    return set()


@plants("S502")
def another_hash_in_the_pointer(plant: Plant) -> set[str]:
    _published(plant)
    plant.edit(plant.layout.latest_key(plant.kind.database), sha256="0" * 64)
    return set()


@plants("S503")
def version_skipped(plant: Plant) -> set[str]:
    """The published version was made from its grandparent: what only its parent had is gone from the lineage."""
    snapshot = plant.json(plant.snapshot_prefix + plant.layout.snapshot_file)
    if len(snapshot["ancestors"]) < 2:
        raise CannotPlant("It takes three versions, one made from the other, and this root has fewer.")
    plant.seal(parent=snapshot["ancestors"][1], ancestors=snapshot["ancestors"][1:])
    return set()


@plants("S503")
def version_skipped_that_no_row_names(plant: Plant) -> set[str]:
    version_skipped(plant)
    for row in plant.rows.values():
        if row.snapshot_version is not None:
            plant.write_row(row.batch_id, snapshot_version=None)
    return set()


@plants("S503")
def row_of_a_lost_version(plant: Plant) -> set[str]:
    """A row was proven by a version that a later one, made from its parent, replaced."""
    row = plant.some(Status.COMPLETED)
    plant.write_row(row.batch_id, snapshot_version=f"{min(2, plant.pointer['n'])}-0000000000000000")
    return {row.batch_id}


@plants("S503")
def parent_that_is_gone(plant: Plant) -> set[str]:
    parent = plant.json(plant.snapshot_prefix + plant.layout.snapshot_file)["parent"]
    if parent is None:
        raise CannotPlant("It takes two versions, one made from the other, and this root has one.")
    plant.delete(plant.layout.snapshot_prefix(plant.kind.database, parent) + plant.layout.snapshot_file)
    return set()


@plants("S504")
def row_of_an_open_batch_in_the_collection(plant: Plant) -> set[str]:
    """A delta explains it, and no catalog names it."""
    row = plant.merged()
    gone = plant.held(row)[:1]
    plant.change_catalog(lambda rows: without(rows, gone))
    return set()


@plants("S504")
def all_of_a_batch_in_the_collection_only(plant: Plant) -> set[str]:
    row = plant.merged()
    gone = plant.held(row)
    plant.change_catalog(lambda rows: without(rows, gone))
    return set()


@plants("S504")
def a_rejected_record_in_the_collection(plant: Plant) -> set[str]:
    rows = [plant.held(row) for row in plant.rows.values() if row.status is Status.COMPLETED]
    gone = [ids[-1] for ids in rows if ids][:2]
    plant.change_catalog(lambda table: without(table, gone))
    return set()


def _journal(plant: Plant, **changes: Any) -> None:
    row = plant.merged()
    value = {
        "execution_id": "dead",
        "intermediates": [],
        "deltas": [{"batch_id": row.batch_id, "delta_key": plant.delta_key(row)}],
        "suspects": [],
        "started_at": plant.ago(days=30),
        "schema": 1,
    }
    plant.put_json(plant.layout.journal_key(plant.kind.database), {**value, **changes})


@plants("S505")
def journal_left_behind(plant: Plant) -> set[str]:
    _journal(plant)
    return set()


@plants("S505")
def journal_of_suspects(plant: Plant) -> set[str]:
    _journal(plant, deltas=[], suspects=["b"])
    return set()


@plants("S505")
def torn_journal(plant: Plant) -> set[str]:
    plant.put(plant.layout.journal_key(plant.kind.database), b'{"execution_id": ')
    return set()
