"""When submissions and executions of a run begin: how they meet decides what can go wrong between them."""

from __future__ import annotations

from typing import Final

from simulator.chance import fraction, number, pick

__all__ = ["SPAN_S", "anyhow", "by_turns", "one_by_one"]

SPAN_S: Final = 1_200
"""[ours] Within it all begin."""
TOGETHER_S: Final = 4.0
"""[ours] About as long as a step of an execution takes."""
APART_S: Final = 20.0
"""[ours] Longer than a submission takes."""
PACES_S: Final = (4.0, 12.0, 40.0)
"""[ours] From one submission to the next, where they come by turns with executions: less than one takes, and more."""


def anyhow(seed: int, submissions: int, executions: int) -> tuple[list[float], list[float]]:
    """When submissions and executions begin, in seconds: half of them right after the one before, so that they meet.

    The first is a submission; then they come in any order.
    """
    moments: list[float] = []
    count = submissions + executions
    for at in range(count):
        if moments and fraction(seed, "together", at) < 0.5:
            moments.append(moments[-1] + fraction(seed, "beside", at) ** 3 * TOGETHER_S)
        else:
            moments.append(fraction(seed, "moment", at) * SPAN_S)
    moments.sort()
    later = sorted(range(1, count), key=lambda at: number(seed, "which", at))
    submitted = {0, *later[: submissions - 1]}
    return [moments[at] for at in sorted(submitted)], [moments[at] for at in range(count) if at not in submitted]


def one_by_one(seed: int, submissions: int, executions: int) -> tuple[list[float], list[float]]:
    """Each when the one before should be done: what is in its way has met a fault."""
    moments = [at * APART_S * (1 + fraction(seed, "after", at)) for at in range(submissions + executions)]
    return moments[:submissions], moments[submissions:]


def by_turns(seed: int, submissions: int, executions: int) -> tuple[list[float], list[float]]:
    """One submission after the other, each with executions soon after it."""
    pace_s = pick(PACES_S, seed, "pace")
    begun = [(at % submissions + 0.5 + 0.5 * fraction(seed, "behind", at)) * pace_s for at in range(executions)]
    return [at * pace_s for at in range(submissions)], begun
