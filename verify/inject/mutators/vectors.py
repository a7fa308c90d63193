"""Vectors, gone, changed or added."""

from __future__ import annotations

import attrs

from embedpipe.lifecycle import Status
from verify.inject.ground import Broken, CannotPlant
from verify.inject.mutators.table import plants
from verify.inject.plant import Plant


def _ids(plant: Plant, least: int) -> list[str]:
    """The ids of the collection. `CannotPlant` where it has fewer than `least`."""
    found = plant.collection.ids()
    if len(found) < least:
        raise CannotPlant(f"It takes a collection of {least} rows, and this one has {len(found)}.")
    return found


@plants("V601")
def vector_gone(plant: Plant) -> set[str]:
    plant.collection.delete(plant.held(plant.merged())[:1])
    return set()


@plants("V601")
def most_vectors_gone(plant: Plant) -> set[str]:
    ids = _ids(plant, 3)
    plant.collection.delete(plant.random.sample(ids, len(ids) - 2))
    return set()


@plants("V601")
def all_vectors_gone(plant: Plant) -> set[str]:
    plant.collection.delete(_ids(plant, 1))
    return set()


@plants("V603")
def another_vector(plant: Plant) -> set[str]:
    plant.upsert(plant.held(plant.merged())[0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    return set()


@plants("V603")
def vectors_swapped(plant: Plant) -> set[str]:
    rows = plant.collection.get(plant.random.sample(_ids(plant, 2), 2))
    plant.collection.write(attrs.evolve(rows, vectors=rows.vectors[::-1].copy()))
    return set()


@plants("V603")
def zero_vector(plant: Plant) -> set[str]:
    """Or one that is no number: stores refuse such vectors, and damaged ones have them."""
    plant.upsert(plant.held(plant.merged())[0], [plant.random.choice([0.0, float("nan"), float("inf")])])
    return set()


@plants("V604")
def vector_of_nobody(plant: Plant) -> set[str]:
    _ids(plant, 1)
    plant.upsert("nobody", [1.0])
    return set()


@plants("V604")
def vectors_of_nobody(plant: Plant) -> set[str]:
    _ids(plant, 1)
    for name in ("", "a", "zzz", "\U0001f600"):
        plant.upsert(name or "0", [1.0, 0.5])
    return set()


@plants("V604")
def vector_of_an_open_batch(plant: Plant) -> set[str]:
    known = set(_ids(plant, 1))
    row = plant.some(Status.PENDING, where=lambda found: any(one.id not in known for one in plant.records(found)))
    plant.upsert(next(one.id for one in plant.records(row) if one.id not in known), [0.25])
    return set()


def _break(plant: Plant, how: Broken) -> set[str]:
    held = plant.held(plant.merged())
    plant.collection.break_reading(how, held)
    return set()


@plants("V602")
def listed_and_not_given(plant: Plant) -> set[str]:
    """The ids are there, the rows are not: an index that lost its segments."""
    return _break(plant, Broken.ROWS_GONE)


@plants("V602")
def reading_fails(plant: Plant) -> set[str]:
    return _break(plant, Broken.READING_FAILS)


@plants("V602")
def index_counts_otherwise(plant: Plant) -> set[str]:
    return _break(plant, Broken.COUNT_DIFFERS)


@plants("V602")
def index_finds_nothing(plant: Plant) -> set[str]:
    return _break(plant, Broken.FINDS_NOTHING)
