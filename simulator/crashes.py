"""Every crash of one run, one after another: each effect, before it happens, after it, and half-way where it has halves.

A pair is a crash and then a second one, in what follows the first: what the second strikes is read from the trace of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

import attrs

from simulator.effects import Happened
from simulator.faults import EFFECTS, Fault, Strike
from simulator.plan import Plan, code_digest, replay
from simulator.points import AFTERWARDS
from simulator.runs import Verdict
from simulator.sweep import Failure, Tally, counted, side_by_side

__all__ = ["crashed", "crashes_of"]

CRASHES: Final = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.CRASH_HALF)


def crashes_of(trace: Sequence[Happened], *, after_us: int = -1) -> list[Strike]:
    """Each crash that is possible in a trace, but for what happens when faults have stopped."""
    return [
        Strike(actor=line.actor, effect=line.effect, nth=line.nth, fault=fault)
        for line in trace
        if line.at_us > after_us and not line.actor.startswith(AFTERWARDS)
        for fault in CRASHES
        if fault in EFFECTS[line.effect]
    ]


def crashed(
    *,
    scenario: str,
    seed: int,
    pairs: bool = False,
    limit: int | None = None,
    jobs: int = 1,
    on_progress: Callable[[Tally, int], None] = lambda _, __: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Tally:
    """Run a scenario once for each crash that its faultless run can meet, and with `pairs` for each second one as well.

    `limit`: at most so many runs of each kind. `on_progress` gets what there is so far, and how many runs there will be.
    `stopping`: asked after some runs each; what there is then is the answer.
    """
    start = Plan(scenario=scenario, seed=seed, code=code_digest())
    clean, _ = replay(start)
    singles = [attrs.evolve(start, strikes=(strike,)) for strike in crashes_of(clean.trace)][:limit]
    total = Tally()
    for part in side_by_side(_replayed, singles, jobs):
        total += part
        on_progress(total, len(singles))
        if stopping():
            return total
    doubled = list(islice((plan for single in singles for plan in _seconds(single)), limit)) if pairs else []
    for part in side_by_side(_replayed, doubled, jobs):
        total += part
        on_progress(total, len(singles) + len(doubled))
        if stopping():
            return total
    return total


def _seconds(plan: Plan) -> Iterator[Plan]:
    outcome, _ = replay(plan)
    (first,) = plan.strikes
    struck_us = next((line.at_us for line in outcome.trace if line.fault and line.actor == first.actor), 0)
    for strike in crashes_of(outcome.trace, after_us=struck_us):
        yield attrs.evolve(plan, strikes=(first, strike))


def _replayed(plans: Sequence[Plan]) -> Tally:
    total = Tally()
    for plan in plans:
        outcome, stale = replay(plan)
        broken = outcome.broken + tuple(f"{where} was never met" for where in stale)
        verdict = Verdict.NONDETERMINISM if stale else outcome.verdict
        failures = (
            (Failure(seed=plan.seed, verdict=verdict, broken=broken, plan=plan),) if verdict is not Verdict.HELD else ()
        )
        total += counted(outcome, failures=failures)
    return total
