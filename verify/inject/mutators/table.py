"""The table that every mutator enters itself in, by the code that it brings about."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final

from embedpipe.errors import CorruptData, EmbedpipeError
from verify.inject.ground import CannotPlant
from verify.inject.plant import Plant

__all__ = ["MUTATORS", "Mutator", "plants"]

Mutator = Callable[[Plant], set[str]]
"""Plants one fault, and returns the `batch_id`s that have to be named."""
DAMAGED: Final = (AttributeError, LookupError, RecursionError, StopIteration, TypeError, ValueError)
"""What comes of taking a root at its word that is not as it says."""
MUTATORS: Final[dict[str, list[Mutator]]] = {}
"""Code -> ways to bring it about."""


def _damaged(error: Exception) -> CannotPlant:
    return CannotPlant(f"What it takes is damaged already ({type(error).__name__}).")


def plants(code: str) -> Callable[[Mutator], Mutator]:
    """Enter a mutator in the table."""

    def enter(mutator: Mutator) -> Mutator:
        @wraps(mutator)
        def planted(plant: Plant) -> set[str]:
            try:
                return mutator(plant)
            except CorruptData as error:
                raise _damaged(error) from error
            except EmbedpipeError:
                raise
            except DAMAGED as error:
                raise _damaged(error) from error

        MUTATORS.setdefault(code, []).append(planted)
        return planted

    return enter
