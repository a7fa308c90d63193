"""The ledger of an audit: for each family and each thing it looks at, whether it was checked. Its lines add up.

Nothing found is not everything checked, so this stands at the end of every report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import attrs

__all__ = ["Coverage", "Ledger", "Line", "State"]


class State(StrEnum):
    """What became of one thing that a family looks at."""

    CHECKED = "checked"
    IN_FLIGHT = "in_flight"
    NOT_EVALUATED = "not_evaluated"
    OUT_OF_SCOPE = "out_of_scope"
    SUPPRESSED = "suppressed"


_ORDER: Final = (State.NOT_EVALUATED, State.SUPPRESSED, State.IN_FLIGHT, State.OUT_OF_SCOPE, State.CHECKED)
"""Of several states of one thing, the first of these counts."""


@attrs.frozen(kw_only=True)
class Line:
    """One family and one unit."""

    family: str
    unit: str
    """`batches`, `executions` or `collections`."""
    total: int
    checked: int = 0
    in_flight: int = 0
    not_evaluated: int = 0
    out_of_scope: int = 0
    suppressed: int = 0


@attrs.frozen(kw_only=True)
class Coverage:
    """What an audit looked at."""

    lines: tuple[Line, ...]
    not_looked_at: tuple[str, ...] = ()
    """What the depth, or the scope, leaves out, in words."""

    @property
    def complete(self) -> bool:
        """Whether everything terminal in scope was checked at this depth."""
        return not any(line.not_evaluated for line in self.lines)

    def count(self, state: State) -> int:
        """How many things are in that state, over all lines."""
        return sum(int(getattr(line, state.value)) for line in self.lines)

    @property
    def total(self) -> int:
        """How many things there are, over all lines."""
        return sum(line.total for line in self.lines)


def worst(states: Iterable[State]) -> State:
    """The state that counts.

    >>> worst([State.CHECKED, State.IN_FLIGHT])
    <State.IN_FLIGHT: 'in_flight'>
    """
    found = set(states)
    return next((state for state in _ORDER if state in found), State.CHECKED)


class Ledger:
    """Counts while an audit runs."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[State]] = {}

    def add(self, unit: str, states: Mapping[str, State], count: int = 1) -> None:
        """One thing (or `count` alike), and its state for each family that looks at it."""
        for family, state in states.items():
            self._counts.setdefault((family, unit), Counter())[state] += count

    def move(self, unit: str, family: str, before: State, after: State, count: int) -> None:
        """Some things turn out to be in another state than was counted."""
        if count:
            counts = self._counts[family, unit]
            counts[before] -= count
            counts[after] += count

    def coverage(self, not_looked_at: Iterable[str] = ()) -> Coverage:
        """The ledger as it stands."""
        return Coverage(
            lines=tuple(
                Line(family=family, unit=unit, total=counts.total(), **{state.value: counts[state] for state in State})
                for (family, unit), counts in sorted(self._counts.items())
            ),
            not_looked_at=tuple(not_looked_at),
        )
