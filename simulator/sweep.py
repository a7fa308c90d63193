"""Many runs: seeds one after another, or divided among processes; a part of them twice, to see that they are equal.

A sweep ends at the first run that does not hold, unless told to go on. What it counts adds up, so two sweeps are one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice, zip_longest
from typing import Final, TypeVar

import attrs

from embedpipe.errors import Unavailable
from simulator.again import lines_again
from simulator.plan import Plan, code_digest, plan_of, scenario_named
from simulator.points import AFTERWARDS, step_of
from simulator.runs import Outcome, Verdict, run
from simulator.scenarios import turn

__all__ = ["Failure", "Tally", "counted", "side_by_side", "sweep"]

REPEATED: Final = 20
"""[ours] One run in so many is repeated in another process and compared."""
CHUNK: Final = 5
"""[ours] Runs that another process takes at a time. Until it has them there is no progress, and nothing can be stopped."""
AHEAD: Final = 4
"""[ours] Of these, for each process."""

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Failure:
    """A run that did not hold."""

    seed: int
    verdict: Verdict
    broken: tuple[str, ...]
    plan: Plan


@attrs.frozen(kw_only=True)
class Tally:
    """What a sweep has come to."""

    runs: int = 0
    effects: int = 0
    faults: int = 0
    repeated: int = 0
    virtual_s: float = 0.0
    met: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)
    """(step, effect, fault) -> how often: the coverage of faults."""
    reached: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """(step, effect) -> how often, struck or not, while there were faults."""
    points: Counter[str] = attrs.field(factory=Counter)
    """Name of a point -> in how many runs it was reached."""
    failures: tuple[Failure, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            runs=self.runs + other.runs,
            effects=self.effects + other.effects,
            faults=self.faults + other.faults,
            repeated=self.repeated + other.repeated,
            virtual_s=self.virtual_s + other.virtual_s,
            met=self.met + other.met,
            reached=self.reached + other.reached,
            points=self.points + other.points,
            failures=self.failures + other.failures,
        )


def sweep(
    *,
    scenario: str,
    seed: int,
    runs: int,
    faults: str,
    jobs: int = 1,
    keep_going: bool = False,
    on_progress: Callable[[Tally], None] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Tally:
    """`runs` runs from `seed` on, or as many of the first as there were before `stopping`.

    Seeds, and so failures, do not depend on `jobs`.
    """
    total = Tally()
    on_progress(total)
    for part in side_by_side(partial(_runs, scenario, faults), range(seed, seed + runs), jobs):
        total += part
        on_progress(total)
        if stopping() or (total.failures and not keep_going):
            break
    return total


def side_by_side(work: Callable[[Sequence[T]], Tally], items: Iterable[T], jobs: int) -> Iterator[Tally]:
    """`work` on some items at a time, in their order: in this process one by one, or a few each in `jobs` others."""
    left = iter(items)
    if jobs == 1:
        yield from (work([item]) for item in left)
        return
    with _processes(jobs) as pool:
        waiting: deque[Future[Tally]] = deque()
        while True:
            # No more than are soon wanted: of a million runs the others need not be remembered.
            while len(waiting) < AHEAD * jobs and (some := list(islice(left, CHUNK))):
                waiting.append(pool.submit(work, some))
            if not waiting:
                return
            yield waiting.popleft().result()


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes leave Ctrl-C to the one that asks them; what has not begun at the end is left out."""
    pool = ProcessPoolExecutor(jobs, initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool:
        raise Unavailable(
            "A process of this sweep was killed, maybe for its memory.", hint="Run it again, with fewer --jobs."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """In a process of a pool: Ctrl-C is not for it, an end is, and so is that of the process that made it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
    os._exit(1)


def _runs(scenario: str, faults: str, seeds: Sequence[int]) -> Tally:
    total = Tally()
    for seed in seeds:
        name, profile = turn(scenario, faults, seed)
        named = scenario_named(name)
        outcome = run(named, seed, profile)
        plan = plan_of(named, outcome)
        failures = []
        if outcome.verdict is not Verdict.HELD:
            failures.append(Failure(seed=seed, verdict=outcome.verdict, broken=outcome.broken, plan=plan))
        # One that failed is repeated, too: what is not the same twice can't be replayed, and has to be looked for elsewhere.
        repeat = seed % REPEATED == 0 or bool(failures)
        if repeat and (parted := divergence([line.line() for line in outcome.trace], lines_again(plan))):
            failures.insert(0, Failure(seed=seed, verdict=Verdict.NONDETERMINISM, broken=(parted,), plan=plan))
        total += counted(outcome, failures=tuple(failures), repeated=repeat)
    return total


def counted(outcome: Outcome, *, failures: tuple[Failure, ...] = (), repeated: bool = False) -> Tally:
    """One run."""
    return Tally(
        runs=1,
        effects=outcome.effects,
        faults=len(outcome.strikes),
        repeated=int(repeated),
        virtual_s=outcome.virtual_s,
        met=Counter((step_of(strike.actor), strike.effect, str(strike.fault)) for strike in outcome.strikes),
        reached=Counter(
            (step_of(line.actor), line.effect) for line in outcome.trace if not line.actor.startswith(AFTERWARDS)
        ),
        points=Counter(outcome.points),
        failures=failures,
    )


def divergence(first: Sequence[str], second: Sequence[str]) -> str | None:
    """The first line in which two traces part; None where they are equal.

    >>> divergence(["a", "b"], ["a"])
    'event 2: b | the end'
    """
    for number, (one, two) in enumerate(zip_longest(first, second, fillvalue="the end"), 1):
        if one != two:
            return f"event {number}: {one} | {two}"
    return None


def same_code(plan: Plan) -> bool:
    """Whether the code that is here wrote the plan."""
    return plan.code in ("", code_digest())
