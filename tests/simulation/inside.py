"""Runs a contract suite inside a simulated world: the test is an actor, and so is each connection that races.

So all that a test does takes virtual time and switches, as in a run; outside of all actors a port would act at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import pytest

from embedpipe.errors import EmbedpipeError
from simulator.world import World

T = TypeVar("T")

RACES = ("blob_store", "blob_keys", "batch_table", "batch_provider", "vector_store")
"""Modules of `verify.contracts` that race threads."""


class Inside:
    """Comes before a suite: class TestMine(Inside, BlobStoreContract)."""

    in_place: ClassVar[bool] = True
    """Of the world's vectors."""
    world: World

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            if name.startswith("test_"):
                setattr(cls, name, _as_actor(getattr(cls, name)))

    @pytest.fixture(autouse=True)
    def _world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with World(1, in_place=self.in_place) as self.world:
            for module in RACES:
                for name, replaced in (("race", self._race), ("in_parallel", self._race)):
                    monkeypatch.setattr(f"verify.contracts.{module}.{name}", replaced, raising=False)
            monkeypatch.setattr("verify.contracts.batch_provider._CLOCK", self.world.clock)
            monkeypatch.setattr("verify.contracts._base._CLOCK", self.world.clock)
            yield

    def create(self) -> World:
        return self.world

    def _race(self, works: Sequence[Callable[[], T]]) -> list[T | EmbedpipeError]:
        return race(self.world, works)


def race(world: World, works: Sequence[Callable[[], T]]) -> list[T | EmbedpipeError]:
    """Actors in place of threads: the result of each, or the error of ours that it raised."""
    actors = [world.spawn(f"racer-{world.kernel.unique('racer')}", work) for work in works]
    world.kernel.join(actors)
    for actor in actors:
        if actor.error is not None and not isinstance(actor.error, EmbedpipeError):
            raise actor.error
    return [actor.error if isinstance(actor.error, EmbedpipeError) else actor.result for actor in actors]


def ask(world: World, work: Callable[[], T], name: str = "asker") -> T:
    """`work()` as an actor of that name (made unique), run to its end; what it raised is raised."""
    nth = world.kernel.unique(name)
    actor = world.spawn(name if nth == 1 else f"{name}-{nth}", work)
    world.kernel.join([actor])
    result: T = world.kernel.result_of(actor)
    return result


def _as_actor(test: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(self: Inside, **given: Any) -> None:
        ask(self.world, lambda: test(self, **given), "test")
        assert self.world.effects.trace, "the test asked nothing of the world"

    return run
