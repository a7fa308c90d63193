"""A pipeline on memory backends, small and quick, for the property tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from embedpipe import events
from embedpipe.assembly import Backends
from embedpipe.backends.memory.behaviour import ChooseBehaviour, always_good
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.config import Config, RunSettings
from embedpipe.limits import Limits, Policy
from embedpipe.model import EmbeddingModel, Kind, Record
from embedpipe.pipeline import Pipeline
from embedpipe.retry import RetryPolicy
from verify.invariants import Violation, World, check, observe

KIND = Kind("notes")
POLICY = Policy(
    ambiguous_after_s=20,
    settle_max_s=60,
    lost_after_s=60,
    capacity_wait_s=5,
    chunk_rows=3,
    merge_rows=5,
    attempts_max=3,
)
CONFIG = attrs.evolve(
    Config.load(env={}, flags={}),
    model=EmbeddingModel(name="scripted", dimensions=8),
    policy=POLICY,
    limits=Limits(requests_per_batch=3),
    retry=RetryPolicy(attempts=3, first_delay_s=0.1),
    run=RunSettings(threads=1, poll_interval_s=10.0),
)


class SmallWorld:
    """Stores that outlive the pipelines opened on them."""

    def __init__(
        self,
        behaviour: ChooseBehaviour = always_good,
        *,
        config: Config = CONFIG,
        kind: Kind = KIND,
        seed: int | str = 0,
    ) -> None:
        self.clock = MemoryClock(seed=seed)
        self.objects = MemoryBlobStore()
        self.table = MemoryBatchTable()
        self.vectors = MemoryVectorStore()
        self.provider = MemoryProvider(self.clock, behaviour=behaviour)
        self.config = config
        self.kind = kind
        self.ambiguous: set[str] = set()
        self.events: list[events.RunEvent] = []

    def pipeline(self, **changes: Any) -> Pipeline:
        """A fresh pipeline on the same stores; `changes` replace backends."""
        backends = Backends(
            **{
                "objects": self.objects,
                "table": self.table,
                "provider": self.provider,
                "embedder": self.provider,
                "vectors": self.vectors,
                "clock": self.clock,
                **changes,
            }
        )
        return Pipeline(backends, self.config, kind=self.kind, on_event=self.note)

    def note(self, event: events.RunEvent) -> None:
        """Remember an event."""
        self.events.append(event)
        if isinstance(event, events.AmbiguousCreate):
            self.ambiguous.add(event.batch_id)

    def observe(self) -> World:
        """What the stores hold."""
        return observe(
            kind=self.kind,
            objects=self.objects,
            table=self.table,
            vectors=self.vectors,
            creates=[made.metadata["batch_id"] for made in self.provider.paid if made.metadata],  # others' have none
            ambiguous=self.ambiguous,
        )

    def violations(self, *, settled: bool = False) -> list[Violation]:
        """What is broken now."""
        return check(self.observe(), settled=settled)


def latest_texts(submissions: Iterable[Iterable[Record]]) -> dict[str, str]:
    """The text that each record was last submitted with."""
    return {record.id: record.text for records in submissions for record in records}


def greatest_claims(world: World) -> dict[str, str]:
    """The text of each record's greatest claim, over all record files."""
    found = sorted((record.claim, record.id, record.document) for group in world.records.values() for record in group)
    return {name: text for _, name, text in found}
