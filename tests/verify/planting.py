"""A root made by a real run, copied for each fault that is planted in it by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache

import attrs

from embedpipe.backends.batch_files import EXPIRED
from embedpipe.backends.memory.behaviour import GOOD, Behaviour
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.model import Record
from tests.protocol.scenes import SERVER_ERROR
from tests.worlds import KIND, SmallWorld
from verify.inject.ground import Ground
from verify.inject.memory import MemoryVectorEdits, ProviderView
from verify.inject.plant import Plant as AnyPlant
from verify.observation import World
from verify.strategies import ITEM_ERRORS

NOW = attrs.evolve(GOOD, running=())
BEHAVIOURS = {
    "r0": GOOD,
    "r3": attrs.evolve(NOW, fates={"r3": ITEM_ERRORS[0], "r4": SERVER_ERROR}),
    "r6": attrs.evolve(NOW, outcome="expired", fates={"r6": EXPIRED}),
    "r9": attrs.evolve(NOW, outcome="expired", fates=dict.fromkeys(("r9", "s0", "s1"), EXPIRED)),
}
"""By a record of the batch: good, one rejected and one to retry, one expired in part, one wholly."""


@cache
def grown() -> SmallWorld:
    """The root that faults are planted in: two submissions merged, retries, an expired batch, and two batches open."""
    later = NOW

    def behaviour(_: int, metadata: Mapping[str, str]) -> Behaviour:
        key = world.config.layout.requests_key(metadata["batch_id"])
        requests = world.objects.get(key).data
        row = world.table.get_many([metadata["batch_id"]])[metadata["batch_id"]]
        known = [made for name, made in BEHAVIOURS.items() if f'"custom_id":"{name}"'.encode() in requests]
        return known[0] if known and row.attempt == 1 else later

    world = SmallWorld(behaviour)
    world.objects = MemoryBlobStore(clock=world.clock)
    names = [f"r{number}" for number in range(10)] + ["s0", "s1"]
    world.pipeline().run([Record(id=name, text=f"text of {name}") for name in names])
    world.pipeline().run([Record(id=name, text=f"later text of {name}") for name in ("r1", "r5")])
    later = attrs.evolve(GOOD, outcome=None)
    world.pipeline().submit([Record(id=f"t{number}", text="open") for number in range(5)])
    world.pipeline().ingest()
    assert world.violations() == []
    return world


@cache
def seen() -> World:
    """What that root holds."""
    return grown().observe()


class Plant(AnyPlant):
    """A copy of that root in memory, and the words to damage it with. `seed` chooses which batch is hit."""

    def __init__(self, seed: int = 0) -> None:
        original = grown()
        self.world = SmallWorld(seed="planted")
        self.world.clock = copy.copy(original.clock)  # what a test waits, no other waits
        self.world.provider = original.provider
        self.world.objects = MemoryBlobStore(clock=self.world.clock)
        for key, data in original.objects.contents().items():
            self.world.objects.write_raw(key, data)
        self.world.table = MemoryBatchTable()
        for row in seen().rows.values():
            item = original.table.read_raw(row.batch_id)
            assert item is not None
            self.world.table.write_raw(item)
        self.world.vectors = MemoryVectorStore()
        with (
            original.vectors.reading(KIND.database, KIND.collection, version="") as old,
            self.world.vectors.editing(KIND.database, KIND.collection, version=None, dimensions=8) as new,
        ):
            new.collection.upsert(old.get(list(old.ids())))
        ground = Ground(
            kind=KIND,
            layout=self.world.config.layout,
            dimensions=8,
            clock=self.world.clock,
            objects=self.world.objects,
            table=self.world.table,
            vectors=MemoryVectorEdits(self.world.vectors.stored(KIND.database, KIND.collection)),
            provider=ProviderView(original.provider),
        )
        super().__init__(ground, seen(), seed)
