"""The two clocks: one asks the machine, the other is told."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.system import SystemClock
from embedpipe.layout import safe_id
from embedpipe.ports import Clock


@pytest.mark.parametrize("clock", [SystemClock(), MemoryClock()])
def test_a_clock_goes_on_and_gives_fresh_ids(clock: Clock) -> None:
    now, monotonic_s = clock.now(), clock.monotonic_s()
    clock.sleep(0.02)
    clock.sleep(-1)
    assert now.utcoffset() == timedelta(0)
    assert clock.now() - now >= timedelta(seconds=0.02)
    assert 0.02 <= clock.monotonic_s() - monotonic_s < 5
    ids = [clock.new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(safe_id(each, "id") == each for each in ids)


def test_virtual_time_passes_only_when_told() -> None:
    clock = MemoryClock(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=1))))
    assert clock.now() == datetime(2026, 1, 1, 1, tzinfo=UTC) == clock.now()
    for _ in range(10):
        clock.sleep(0.1)
    clock.sleep(24 * 3600)
    assert clock.monotonic_s() == 24 * 3600 + 1
    assert clock.now() == datetime(2026, 1, 2, 1, 0, 1, tzinfo=UTC)


def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        MemoryClock(datetime(2026, 1, 1))  # noqa: DTZ001  that is the point


def test_ids_follow_from_the_seed() -> None:
    first, again, other = MemoryClock(seed=7), MemoryClock(seed=7), MemoryClock(seed=8)
    ids = [first.new_id() for _ in range(3)]
    assert ids == [again.new_id() for _ in range(3)]
    assert not set(ids) & {other.new_id() for _ in range(3)}


def test_threads_share_one_virtual_time() -> None:
    clock = MemoryClock()
    ids: list[str] = []

    def work() -> None:
        for _ in range(200):
            clock.sleep(0.001)
            ids.append(clock.new_id())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic_s() == 1.6
    assert len(set(ids)) == 1_600
