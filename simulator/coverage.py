"""What a sweep has been through: which step met which fault, and which points it has reached. Holes have a name.

A cell is empty where a step has effects that can meet a fault, and never did. The few that can't be filled stand in a table,
each with its reason; any other is a hole in the search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from simulator.faults import EFFECTS, Fault
from simulator.points import POINTS
from simulator.sweep import Tally

__all__ = ["Coverage", "covered"]

UNREACHABLE: Final[Mapping[tuple[str, Fault], str]] = MappingProxyType({})
"""(step, fault) -> why it can't be there."""


@attrs.frozen(kw_only=True)
class Coverage:
    """What a sweep came to."""

    cells: Mapping[tuple[str, Fault], int]
    """How often each step met each fault that its effects can meet."""
    points: Mapping[str, int]
    """In how many runs each point was reached."""

    @property
    def holes(self) -> tuple[str, ...]:
        """What was never met and never reached."""
        cells = [
            f"{step} never met {fault}"
            for (step, fault), count in self.cells.items()
            if not count and (step, fault) not in UNREACHABLE
        ]
        return (*cells, *(f"never reached: {name}" for name, count in self.points.items() if not count))


def covered(tally: Tally) -> Coverage:
    """The coverage of a sweep."""
    cells: Counter[tuple[str, Fault]] = Counter()
    for step, effect in sorted(tally.reached):
        for fault in EFFECTS[effect]:
            cells[step, fault] += tally.met[step, effect, str(fault)]
    return Coverage(cells=cells, points={name: tally.points[name] for name in POINTS})
