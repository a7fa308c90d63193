"""A simulated world: ports, virtual time and faults, all from one seed. Code that is written on the ports runs in it.

with World(seed=7, faults="all") as world:
    world.spawn("mine", lambda: world.objects.put("a/b", b"data"))
    world.run()
"""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Final, Self

from embedpipe.backends.memory.behaviour import ChooseBehaviour, always_good
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.errors import InvalidInput
from embedpipe.model import content_hasher, metadata_json
from embedpipe.ports import VectorStore
from simulator.effects import Effects
from simulator.faults import Faults, drawn
from simulator.guard import guarded
from simulator.kernel import SECOND_US, Actor, Kernel, Lock
from simulator.ports import SimulatedClock, SimulatedObjects, SimulatedProvider, SimulatedTable, SimulatedVectors
from simulator.versions import SimulatedVersions, Versions
from simulator.watch import Watch, WatchedObjects, WatchedProvider, WatchedTable

__all__ = ["SIMULATED", "World"]

SIMULATED: Final = "simulated"
"""The model of a simulated run."""


class Stores:
    """What the services hold, to be looked at from outside: nothing here is an effect."""

    def __init__(
        self, kernel: Kernel, clock: SimulatedClock, behaviour: ChooseBehaviour, dimensions: int, *, in_place: bool
    ) -> None:
        self.watch = Watch(
            lambda: f"{kernel.now_us / SECOND_US:.6f} by {kernel.current.name if kernel.current else ''}"
        )
        self.table = WatchedTable(self.watch)
        self.objects = WatchedObjects(self.table, self.watch, clock=clock, in_place=in_place)
        self.table.unpublished, self.table.stored = self.objects.unpublished, self.objects.has
        self.provider = WatchedProvider(clock, dimensions=dimensions, behaviour=behaviour)
        self.provider.table, self.provider.watch = self.table, self.watch
        self.provider.registers = self.objects.register_of
        self.vectors: MemoryVectorStore | Versions
        self.vectors = MemoryVectorStore(new_lock=lambda: Lock(kernel)) if in_place else Versions()
        self.objects.contents_of = self._contents

    def _contents(self, database: str) -> dict[str, bytes]:
        """Of what is merged in place, the content hash of each row."""
        found = self.vectors.found(database) if isinstance(self.vectors, MemoryVectorStore) else None
        if found is None:
            return {}
        hash_contents = content_hasher(SIMULATED, found.dimensions)
        rows = found.rows
        metadata = [metadata_json(row.metadata) for row in rows.values()]
        return dict(zip(rows, hash_contents([row.document or "" for row in rows.values()], metadata), strict=True))


class World:
    """Ports on virtual time. `faults`: a profile's name, or the faults themselves, as of a plan.

    `in_place`: whether vectors are merged in place, under a lock, or into versions that race for the pointer.
    """

    def __init__(
        self,
        seed: int,
        faults: Faults | str = "none",
        *,
        behaviour: ChooseBehaviour = always_good,
        dimensions: int = 8,
        in_place: bool = True,
    ) -> None:
        if isinstance(faults, str):
            faults = drawn(seed, faults, everywhere=True)  # profiles gather where our steps are weak
        self.seed = seed
        self.kernel = Kernel()
        self.faults = faults
        self.effects = Effects(self.kernel, faults, seed)
        self.clock = SimulatedClock(self.effects)
        self.stores = Stores(self.kernel, self.clock, behaviour, dimensions, in_place=in_place)
        self.objects = SimulatedObjects(self.stores.objects, self.effects)
        self.table = SimulatedTable(self.stores.table, self.effects)
        self.provider = SimulatedProvider(self.stores.provider, self.effects)
        self.vectors: VectorStore = (
            SimulatedVersions(self.stores.vectors, self.effects)
            if isinstance(self.stores.vectors, Versions)
            else SimulatedVectors(self.stores.vectors, self.effects)
        )
        self._names: set[str] = set()
        self._closed = False

    def spawn(self, name: str, work: Callable[[], Any], *, after_s: float = 0.0) -> Actor:
        """A new actor, under a name of its own: faults are planned by it."""
        self.kernel.refuse_when_closed()
        if not callable(work) or iscoroutinefunction(work):
            raise InvalidInput(
                f"{name[:60]!a} is no plain function.", hint="Actors are called, and take turns at ports."
            )
        if not 0 <= after_s < math.inf:
            raise InvalidInput(f"{name[:60]!a} begins {after_s} s from now.", hint="Time goes on only: 0 or more.")
        if name in self._names:
            raise InvalidInput(f"There is an actor {name[:60]!a} already.", hint="Give each a name of its own.")
        self._names.add(name)
        return self.kernel.spawn(name, work, after_us=round(after_s * SECOND_US))

    def run(self, *, for_s: float | None = None) -> None:
        """Until nobody has anything left to do, or `for_s` seconds of virtual time have passed.

        `InvalidInput` names an actor that has asked for the real clock or for a network. `ActorFailed` is raised from an
        error that ended an actor and that nobody took: a failed assertion, say. Errors of the package's are its `error` only:
        a service that fails is what worlds are for. `Overrun` names who waits for ever, `Stuck` who does not come back.
        """
        self.kernel.refuse_when_closed()
        until_us = None if for_s is None else self.kernel.now_us + round(for_s * SECOND_US)
        with guarded(self.kernel):
            self.kernel.run(until_us=until_us)
        self.kernel.refuse_unfinished()

    def close(self) -> None:
        """End all actors where they stand; nothing they still do has an effect. Quiet when called twice."""
        if not self._closed:
            self._closed = True
            self.kernel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
