"""The final merge within its time: what was taken is published, and the next call goes on from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.engine import invoke
from embedpipe.limits import Policy
from embedpipe.model import Record
from embedpipe.pipeline import Pipeline
from embedpipe.stages import streams
from embedpipe.steps import merge
from embedpipe.steps.call import CALLS
from tests.harness import Faults, SnapshotVectors, crash, dies
from tests.worlds import CONFIG, SmallWorld

RECORDS = [Record(id=f"r{at:02d}", text=f"text {at}") for at in range(20)]


class Slow:
    """A vector store that needs a second for each upsert, and `opening_s` to open."""

    def __init__(self, inner: Any, clock: MemoryClock, opening_s: float) -> None:
        self.inner = inner
        self.clock = clock
        self.opening_s = opening_s
        self.blocks: list[list[str]] = []

    def reading(self, database: str, collection: str, *, version: str) -> Any:
        return self.inner.reading(database, collection, version=version)

    @contextmanager
    def editing(self, database: str, collection: str, **options: Any) -> Iterator[Any]:
        with self.inner.editing(database, collection, **options) as edition:
            self.clock.sleep(self.opening_s)
            upsert = edition.collection.upsert

            def slow(rows: Any) -> None:
                self.clock.sleep(1)
                self.blocks.append(list(rows.ids))
                upsert(rows)

            edition.collection.upsert = slow
            yield edition
            edition.collection.upsert = upsert


@pytest.mark.parametrize("opening_s", [0, 100])
@pytest.mark.parametrize("inner", [MemoryVectorStore, SnapshotVectors])
def test_a_group_is_left_when_time_is_over(inner: Any, opening_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WINDOW_BYTES", 1)
    policy = Policy(merge_budget_s=2, merge_rows=1_000, chunk_rows=1_000, upsert_rows=4)
    world = SmallWorld(config=attrs.evolve(CONFIG, policy=policy))
    world.vectors = slow = Slow(inner(), world.clock, opening_s)
    world.pipeline().submit(RECORDS)
    calls = _final_merges(world.pipeline(), world)
    written = [name for block in slow.blocks for name in block]
    assert written == [record.id for record in RECORDS], "each row is written once, whatever the number of calls"
    assert sum(call["inserted"] for call in calls) == len(RECORDS)
    assert len({call["version"] for call in calls}) == len(calls) == (2 if opening_s == 0 else 3)
    assert [call["more"] for call in calls] == [True] * (len(calls) - 1) + [False]
    assert world.violations(settled=True) == []


def test_a_dead_writers_rows_are_written_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal that names them ends with the version: what was left out would be in nobody's memory."""
    monkeypatch.setattr(streams, "WINDOW_BYTES", 1)
    policy = Policy(merge_budget_s=2, merge_rows=1_000, chunk_rows=1_000, upsert_rows=4)
    world = SmallWorld(config=attrs.evolve(CONFIG, policy=policy))
    world.pipeline().submit(RECORDS)
    faults = Faults().after("collection.upsert", crash)
    assert dies(faults.pipeline(world).run)
    world.vectors = Slow(world.vectors, world.clock, 100)
    [call] = _final_merges(world.pipeline(), world)
    assert (call["more"], call["inserted"]) == (False, len(RECORDS))
    assert world.violations(settled=True) == []


def _final_merges(pipe: Pipeline, world: SmallWorld) -> list[dict[str, Any]]:
    """One ingest after the other until all has ended; what each call of the final merge returned."""
    calls: list[dict[str, Any]] = []

    def listening(ctx: Any, name: str, event: Any, policy: Any) -> Any:
        output = invoke(ctx, name, event, policy)
        if name == "final_merge" and output["inserted"]:
            calls.append(output)
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedpipe.engine.invoke", listening)
        pipe.run()
    return calls


def test_a_lost_race_after_the_time_is_over_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that waits for another returns before its function is ended."""
    world = SmallWorld(config=attrs.evolve(CONFIG, policy=Policy(merge_budget_s=2, chunk_rows=1_000)))
    world.vectors = Slow(SnapshotVectors(), world.clock, 100)
    monkeypatch.setattr(merge._Attempt, "publish", lambda *_: False)
    world.pipeline().submit(RECORDS[:3])
    inner = CALLS["final_merge"]

    def once(ctx: Any, event: Any) -> Any:
        output = inner(ctx, event)
        if not output["more"]:
            return output
        raise _Returned(output)

    monkeypatch.setattr("embedpipe.engine.CALLS", {**CALLS, "final_merge": once})
    with pytest.raises(_Returned) as returned:
        world.pipeline().run()
    [output] = returned.value.args
    assert (output["more"], output["next_chunk"], output["inserted"]) == (True, 0, 0)


class _Returned(Exception):
    """Ends a walk with what a step returned."""
