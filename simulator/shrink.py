"""Delta debugging: fewer faults and less of the script, as long as the run still fails alike.

Faults and parts of the script are one list of pieces, so one algorithm (Zeller's ddmin) makes both small. Since chance is
keyed, a piece less leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from simulator.faults import Strike
from simulator.plan import Plan, replay, scenario_named
from simulator.runs import Verdict

__all__ = ["minimal", "shrink"]

T = TypeVar("T")


def shrink(plan: Plan, *, runs_max: int = 400) -> Plan:
    """A plan with as little in it as possible that fails alike: with that verdict, and a rule of those that were broken.

    `runs_max` bounds how often it is tried.
    """
    first = replay(plan)[0]
    if first.verdict is Verdict.HELD:
        return plan
    tries = 0

    def fails(pieces: Sequence[Strike | str]) -> bool:
        nonlocal tries
        tries += 1
        if tries > runs_max:
            return False
        outcome = replay(_with(plan, pieces))[0]
        return outcome.verdict is first.verdict and not first.rules.isdisjoint(outcome.rules)

    parts = scenario_named(plan.scenario).script(plan.seed).parts
    pieces: list[Strike | str] = [*plan.strikes, *(part for part in parts if part not in plan.without)]
    return _with(plan, minimal(pieces, fails))


def _with(plan: Plan, pieces: Sequence[Strike | str]) -> Plan:
    """The plan with these pieces only."""
    parts = scenario_named(plan.scenario).script(plan.seed).parts
    return attrs.evolve(
        plan,
        strikes=tuple(piece for piece in pieces if isinstance(piece, Strike)),
        without=frozenset(parts) - {piece for piece in pieces if isinstance(piece, str)},
    )


def minimal(pieces: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """A part of `pieces` that still fails and of which no single piece can go.

    >>> minimal(range(20), lambda kept: {3, 17} <= set(kept))
    [3, 17]
    """
    kept = list(pieces)
    size = len(kept)
    while kept and size:
        size = min(size, len(kept))
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if fails(fewer):
                kept = fewer
                break
        else:
            size //= 2
    return kept
