"""What a mutation is that no run killed: one line for each, which says why."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase

import attrs

__all__ = ["Survivor", "Word", "equivalent", "gap", "out"]


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

    place: str
    """Patterns of module and function."""
    changes: str
    """Patterns of changes there, with spaces between them."""
    word: Word
    reason: str

    def fits(self, name: str) -> bool:
        """Whether it speaks of this mutation."""
        place, _, change = name.rpartition(":")
        return fnmatchcase(place, f"embedpipe.{self.place}") and any(
            fnmatchcase(change, pattern) for pattern in self.changes.split()
        )


def equivalent(place: str, changes: str, reason: str) -> Survivor:
    """A line with that word."""
    return Survivor(place, changes, Word.EQUIVALENT, reason)


def out(place: str, changes: str, reason: str) -> Survivor:
    """A line with that word."""
    return Survivor(place, changes, Word.OUT_OF_SCOPE, reason)


def gap(place: str, changes: str, reason: str) -> Survivor:
    """A line with that word."""
    return Survivor(place, changes, Word.GAP, reason)
