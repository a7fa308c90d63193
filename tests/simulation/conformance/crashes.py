"""What a process leaves behind that dies before, after or half-way through a call: each a named case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs
import numpy as np

from embedpipe.layout import SEED
from embedpipe.ports import Collection, VectorRows
from simulator.faults import EFFECTS, Fault
from simulator.world import World
from tests.simulation.conformance.faults import CALLS

Read = Callable[[World], list[str]]
ROWS: Final = [f"r{number}" for number in range(6)]
DATABASE, COLLECTION = "words", "receipt_words"


@attrs.frozen(kw_only=True)
class Crash:
    """Half of an effect of a vector store."""

    effect: str
    says: str
    in_place: bool
    work: Callable[[World], None]
    """Merges `ROWS[3:]` into a store that has `ROWS[:3]`; the fault strikes within."""
    left: tuple[str, ...]
    """Ids that the latest version, or the one half sealed, has afterwards."""
    version: str

    @property
    def name(self) -> str:
        return f"{self.effect}/crash_half"


def rows(ids: list[str]) -> VectorRows:
    return VectorRows(
        ids=ids, vectors=np.ones((len(ids), 8), np.float32), documents=ids, metadatas=[{"of": name} for name in ids]
    )


def merge(world: World, version: str, base: str | None, write: Callable[[Collection], None]) -> None:
    with world.vectors.editing(DATABASE, COLLECTION, version=base, dimensions=8) as edition:
        write(edition.collection)
        edition.seal(SEED.snapshot_prefix(DATABASE, version))


def _upsert(world: World) -> None:
    merge(world, "2-b", "1-a", lambda collection: collection.upsert(rows(ROWS[2:])))


def _delete(world: World) -> None:
    merge(world, "2-b", "1-a", lambda collection: collection.delete(ROWS[:2]))


HALF: Final = (
    Crash(
        effect="collection.upsert",
        says="Half of an upsert in place leaves some of its rows, each whole; the upsert again leaves all of them.",
        in_place=True,
        work=_upsert,
        left=("r0", "r1", "r2", "r3"),
        version="1-a",
    ),
    Crash(
        effect="collection.delete",
        says="Half of a delete in place leaves some of its rows; the delete again leaves none.",
        in_place=True,
        work=_delete,
        left=("r1", "r2"),
        version="1-a",
    ),
    Crash(
        effect="edition.seal",
        says="Half of a seal leaves a part of the rows under a version that nothing points to; the last one is whole.",
        in_place=False,
        work=_upsert,
        left=("r0", "r1", "r2"),
        version="2-b",
    ),
)

WHOLE: Final[Mapping[str, str]] = {
    effect: f"A process that dies before {effect} has done nothing; one that dies after it has done all of it."
    for effect in CALLS
    if Fault.CRASH_AFTER in EFFECTS[effect]
}
