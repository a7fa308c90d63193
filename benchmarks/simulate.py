"""Simulating: the kernel alone beside an asyncio loop on virtual time, and whole runs, with where their time goes.

python -m benchmarks simulate
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from benchmarks.measure import Figure

ACTORS = 20
LATENCY_US = 2_000
"""Of the quickest actor; no two have the same, as calls to services have not."""


def kernel_s(waits: int) -> float:
    """CPU of one wait, with actors that take turns."""
    from simulator.kernel import Kernel

    kernel = Kernel(moments_max=waits * 2)

    def work(us: int) -> None:
        for _ in range(waits // ACTORS):
            kernel.wait(us)

    for at in range(ACTORS):
        kernel.spawn(f"actor-{at}", partial(work, LATENCY_US + 31 * at))
    began = time.process_time()
    kernel.run()
    return (time.process_time() - began) / waits


class _Selector(selectors.SelectSelector):
    """Nothing is waited for: time moves on by what was asked."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Nothing is ever ready."""
        self.now_s += timeout or 0.0
        return []


class _Loop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock is virtual: the usual way to test code with timers."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """As the selector has it."""
        return self._virtual.now_s


def asyncio_s(waits: int) -> float:
    """The same with coroutines that sleep on a virtual clock."""

    async def work(us: int) -> None:
        for _ in range(waits // ACTORS):
            await asyncio.sleep(us / 1e6)

    async def main() -> None:
        await asyncio.gather(*(work(LATENCY_US + 31 * at) for at in range(ACTORS)))

    loop = _Loop()
    began = time.process_time()
    loop.run_until_complete(main())
    spent = time.process_time() - began
    loop.close()
    return spent / waits


AREAS = (
    ("auditor", "/verify/audit/"),
    ("guarantees", "/verify/"),
    ("guarantees", "/simulator/oracle.py"),
    ("codecs", "/embedpipe/wire/"),
    ("codecs", "/embedpipe/vectors/"),
    ("stores", "/embedpipe/backends/"),
    ("stores", "/simulator/watch.py"),
    ("steps", "/embedpipe/"),
    ("kernel", "/simulator/"),
)
"""Whose time it is: the first of these in which there is a frame of the stack. A judge's time is all that it calls."""
EVERY_S = 0.001


def area_of(frame: FrameType | None) -> str:
    """The area of a stack. Judges are looked for in all of it, the others from the inside out."""
    files: list[str] = []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    for name, part in AREAS[:3]:
        if any(part in file for file in files):
            return name
    return next((name for file in files for name, part in AREAS[3:] if part in file), "kernel")


@contextmanager
def sampled(found: Counter[str]) -> Iterator[None]:
    """Count areas, one each millisecond of CPU."""
    before = signal.signal(signal.SIGPROF, lambda _, frame: found.update([area_of(frame)]))
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def runs_s(runs: int) -> tuple[float, float, dict[str, float]]:
    """CPU of one small run, its effects, and the share of each area."""
    from simulator.runs import run as simulated
    from simulator.scenarios import SCENARIOS

    simulated(SCENARIOS["small"], 0, "all")
    found: Counter[str] = Counter()
    effects = 0
    began = time.process_time()
    with sampled(found):
        for seed in range(runs):
            effects += simulated(SCENARIOS["small"], seed, "all").effects
    total_s = time.process_time() - began
    shares = {name: count / max(1, found.total()) for name, count in found.most_common()}
    return total_s / runs, effects / runs, shares


def run(waits: int = 200_000, runs: int = 100, rounds: int = 5) -> list[Figure]:
    """Ratios, and rates of one core."""
    turns = [(kernel_s(waits), asyncio_s(waits)) for _ in range(rounds)]
    kernel, loop = (statistics.median(values) for values in zip(*turns, strict=True))
    run_s, effects, shares = runs_s(runs)
    where = ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
    return [
        Figure("simulator: asyncio on virtual time, over the kernel", loop / kernel, 5, at_least=True),
        Figure("simulator: waits of the kernel, 100,000 a CPU second", 1e-5 / kernel, 1, at_least=True),
        Figure(
            "simulator: small runs a CPU second, audit included",
            1 / run_s,
            300,
            at_least=True,
            unit="/s",
            note=f"{effects:.0f} effects a run, {1e6 * run_s / effects:.0f} us each: {where}",
        ),
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
