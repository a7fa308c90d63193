"""Vectors, gone, changed or added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from embedpipe.errors import CorruptData
from tests.verify.mutators.table import plants
from tests.verify.planting import Plant


@plants("V601")
def vector_gone(plant: Plant) -> set[str]:
    plant.collection.delete(plant.held(plant.merged())[:1])
    return set()


@plants("V601")
def most_vectors_gone(plant: Plant) -> set[str]:
    ids = list(plant.collection.rows)
    plant.collection.delete(plant.random.sample(ids, len(ids) - 2))
    return set()


@plants("V601")
def all_vectors_gone(plant: Plant) -> set[str]:
    plant.collection.delete(list(plant.collection.rows))
    return set()


@plants("V603")
def another_vector(plant: Plant) -> set[str]:
    plant.upsert(plant.held(plant.merged())[0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    return set()


@plants("V603")
def vectors_swapped(plant: Plant) -> set[str]:
    rows = plant.collection.rows
    one, two = plant.random.sample(sorted(rows), 2)
    rows[one], rows[two] = rows[two], rows[one]
    return set()


@plants("V603")
def zero_vector(plant: Plant) -> set[str]:
    import attrs
    import numpy as np

    name = plant.held(plant.merged())[0]
    fill = plant.random.choice([0.0, float("nan"), float("inf")])
    plant.collection.rows[name] = attrs.evolve(plant.collection.rows[name], vector=np.full(8, fill, np.float32))
    return set()


@plants("V604")
def vector_of_nobody(plant: Plant) -> set[str]:
    plant.upsert("nobody", [1.0] * 8)
    return set()


@plants("V604")
def vectors_of_nobody(plant: Plant) -> set[str]:
    for name in ("", "a", "zzz", "\U0001f600"):
        plant.upsert(name or "0", [1.0, 0.5] * 4)
    return set()


@plants("V604")
def vector_of_an_open_batch(plant: Plant) -> set[str]:
    plant.upsert("t1", [0.25] * 8)
    return set()


@plants("V602")
def listed_and_not_given(plant: Plant) -> set[str]:
    """The ids are there, the rows are not: an index that lost its segments."""
    held = plant.held(plant.merged())
    given = plant.collection.get
    plant.collection.get = lambda ids: given([name for name in ids if name not in held])  # type: ignore[method-assign]
    return set()


@plants("V602")
def reading_fails(plant: Plant) -> set[str]:
    def get(ids: Sequence[str]) -> NoReturn:
        raise CorruptData(f"Error finding id {ids[0]!a}.")

    plant.collection.get = get  # type: ignore[method-assign]
    return set()


@plants("V602")
def index_counts_otherwise(plant: Plant) -> set[str]:
    count = plant.collection.count()
    plant.collection.count = lambda: count - 3  # type: ignore[method-assign]
    return set()


@plants("V602")
def index_finds_nothing(plant: Plant) -> set[str]:
    plant.collection.search = lambda vector, k: []  # type: ignore[method-assign]
    return set()
