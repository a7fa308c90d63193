"""Simulating: the kernel alone beside an asyncio loop on virtual time, and whole runs, with where their time goes.

python -m benchmarks simulate
"""

from __future__ import annotations

import asyncio
import selectors
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
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


def runs_s(runs: int) -> tuple[float, float, dict[str, float]]:
    """CPU of one small run, its effects, and the shares of kernel and steps, of the guarantees, and of the auditor."""
    from simulator import runs as module
    from simulator.scenarios import SCENARIOS

    spent: Counter[str] = Counter()

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **options)
            finally:
                spent[name] += time.process_time() - began

        return wrapped

    kept = module.observe, module.audit
    module.observe, module.audit = timed("guarantees", kept[0]), timed("auditor", kept[1])
    try:
        module.run(SCENARIOS["small"], 0, "all")
        spent.clear()
        began, effects = time.process_time(), 0
        for seed in range(runs):
            effects += module.run(SCENARIOS["small"], seed, "all").effects
        total = time.process_time() - began
    finally:
        module.observe, module.audit = kept
    shares = {name: seconds / total for name, seconds in sorted(spent.items())}
    return total / runs, effects / runs, {"kernel, steps and codecs": 1 - sum(shares.values()), **shares}


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
