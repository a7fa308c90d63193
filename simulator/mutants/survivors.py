"""Why mutations survive: every one that no run killed has its line here, equivalent, out of scope, or a gap.

A line is a pattern of names, so that one reason may hold for all of a function. The first line that fits is the one.
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

import attrs

__all__ = ["SURVIVORS", "Survivor", "Word", "survivor_of"]


class Word(StrEnum):
    """What a survivor is."""

    EQUIVALENT = "equivalent"
    """Nothing changes that a guarantee speaks of."""
    OUT_OF_SCOPE = "out of scope"
    """What changes is not what the simulator judges; the reason says what it is, and what tests it."""
    GAP = "gap"
    """A run could show it and none does; the reason says what it would take."""


@attrs.frozen
class Survivor:
    """One line."""

    pattern: str
    word: Word
    reason: str


SURVIVORS: Final[tuple[Survivor, ...]] = ()


def survivor_of(name: str) -> Survivor | None:
    """The line of a mutation."""
    return next((line for line in SURVIVORS if fnmatchcase(name, line.pattern)), None)
