"""Leases over an object store: one holder, no clock compared, the dead give way, and who lost one knows it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from embedpipe.backends.lease import leased
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.system import SystemClock
from embedpipe.errors import ConfigError, PreconditionFailed, Throttled, Unavailable, WriteConflict
from embedpipe.wire import Lease

KEY = "words/snapshot/lease.json"


class Troubled(MemoryBlobStore):
    """Each put meets the next trouble: what is raised, before or after its effect."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Exception | None] = []
        self.after: list[Exception | None] = []

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        if self.before and (error := self.before.pop(0)) is not None:
            raise error
        etag = super().put(key, data, **conditions)
        if self.after and (error := self.after.pop(0)) is not None:
            raise error
        return etag


def stored(objects: MemoryBlobStore) -> Lease:
    return Lease.load(objects.get(KEY).data, KEY)


def held_by(objects: MemoryBlobStore, holder: str | None, *, lease_s: float = 60.0, beat: int = 1) -> None:
    objects.put(KEY, Lease(holder=holder, beat=beat, lease_s=lease_s, renewed_at="2026-01-01T00:00:00Z").dump())


def test_one_holder_at_a_time() -> None:
    objects, clock = MemoryBlobStore(), SystemClock()
    inside, entered = threading.Semaphore(1), []

    def work() -> None:
        with leased(objects, KEY, clock, lease_s=0.2):
            assert inside.acquire(blocking=False)
            entered.append(1)
            clock.sleep(0.02)
            inside.release()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == 6
    assert stored(objects).holder is None


def test_a_live_holder_keeps_it_as_long_as_it_works() -> None:
    objects, clock = MemoryBlobStore(), SystemClock()
    with leased(objects, KEY, clock, lease_s=0.3) as first:
        assert first is not None
        with leased(objects, KEY, clock, lease_s=0.3, patience_s=0.9) as second:
            assert second is None
        first.check()
        assert stored(objects).beat > 3


@pytest.mark.parametrize("damaged", [False, True])
def test_a_dead_holder_gives_way(damaged: bool) -> None:
    objects, clock = MemoryBlobStore(), MemoryClock()
    held_by(objects, "dead", lease_s=40.0)
    if damaged:
        objects.put(KEY, b"{")
    with leased(objects, KEY, clock, lease_s=60) as held:
        assert held is not None
        held.check()
        assert (60 if damaged else 40) <= clock.monotonic_s() < 66


def test_what_a_stranger_asks_for_is_bounded() -> None:
    objects, clock = MemoryBlobStore(), MemoryClock()
    held_by(objects, "dead", lease_s=1e12)
    with leased(objects, KEY, clock, lease_s=60) as held:
        assert held is not None
    assert clock.monotonic_s() < 3_700


def test_without_patience_the_block_runs_without_it() -> None:
    objects, clock = MemoryBlobStore(), MemoryClock()
    held_by(objects, "alive")
    before = objects.get(KEY)
    with leased(objects, KEY, clock, lease_s=60, patience_s=30) as held:
        assert held is None
    assert objects.get(KEY) == before
    assert 30 <= clock.monotonic_s() < 36


def test_a_holder_that_sleeps_too_long_knows_it() -> None:
    objects, clock = MemoryBlobStore(), MemoryClock()
    with leased(objects, KEY, clock, lease_s=60) as held:
        assert held is not None
        clock.sleep(29)
        held.check()
        clock.sleep(2)
        with pytest.raises(WriteConflict, match=r"lease\.json"):
            held.check()


def test_a_machine_that_sleeps_stops_one_of_its_clocks() -> None:
    class Suspended(MemoryClock):
        def monotonic_s(self) -> float:
            return 0.0

    clock = Suspended()
    with leased(MemoryBlobStore(), KEY, clock, lease_s=60) as held:
        assert held is not None
        clock.sleep(31)
        with pytest.raises(WriteConflict):
            held.check()


def test_who_lost_it_learns_it_at_the_next_beat() -> None:
    objects, clock = MemoryBlobStore(), SystemClock()
    with leased(objects, KEY, clock, lease_s=0.6) as held:
        assert held is not None
        held_by(objects, "another", beat=9)
        clock.sleep(0.25)
        with pytest.raises(WriteConflict):
            held.check()
    assert stored(objects).holder == "another"


@pytest.mark.parametrize("error", [Unavailable("lost"), PreconditionFailed("by our own first try")])
def test_a_lost_answer_is_recognised(error: Exception) -> None:
    objects = Troubled()
    objects.after = [error, error]  # when taken, and when released
    with leased(objects, KEY, MemoryClock(), lease_s=60) as held:
        assert held is not None
        assert stored(objects).holder is not None
    assert stored(objects).holder is None


def test_a_beat_whose_answer_is_lost_does_not_lose_it() -> None:
    objects, clock = Troubled(), SystemClock()
    objects.after = [None, Unavailable("lost"), PreconditionFailed("ours"), None]
    objects.before = [None, None, None, Throttled("slow down"), WriteConflict("409")]
    with leased(objects, KEY, clock, lease_s=0.6) as held:
        assert held is not None
        clock.sleep(0.8)
        held.check()
        assert stored(objects).beat >= 4
    assert not objects.before


def test_a_store_that_refuses_is_said() -> None:
    objects = Troubled()
    objects.before = [Throttled("slow down")]
    with pytest.raises(Throttled), leased(objects, KEY, MemoryClock(), lease_s=60):
        raise AssertionError
    with pytest.raises(ConfigError, match="lease_s"), leased(objects, KEY, MemoryClock(), lease_s=0):
        raise AssertionError


def test_a_lost_race_is_another_look() -> None:
    """Between look and write another takes and frees it."""
    objects, clock = MemoryBlobStore(), MemoryClock()

    class Late(MemoryBlobStore):
        def put(self, key: str, data: bytes, **conditions: Any) -> str:
            meddle = steps.pop(0) if steps else None
            if meddle is not None:
                meddle()
            return objects.put(key, data, **conditions)

        def get(self, key: str) -> Any:
            return objects.get(key)

    steps: list[Callable[[], None]] = [lambda: held_by(objects, None, beat=7)]
    with leased(Late(), KEY, clock, lease_s=60) as held:
        assert held is not None
        assert stored(objects).beat == 8
