"""The table that every mutator enters itself in, by the code that it brings about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from verify.inject.plant import Plant

__all__ = ["MUTATORS", "Mutator", "plants"]

Mutator = Callable[[Plant], set[str]]
"""Plants one fault, and returns the `batch_id`s that have to be named."""
MUTATORS: Final[dict[str, list[Mutator]]] = {}
"""Code -> ways to bring it about."""


def plants(code: str) -> Callable[[Mutator], Mutator]:
    """Enter a mutator in the table."""

    def enter(mutator: Mutator) -> Mutator:
        MUTATORS.setdefault(code, []).append(mutator)
        return mutator

    return enter
