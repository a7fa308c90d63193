"""Chance that is keyed: each draw follows from the seed and from what it is for, never from what was drawn before.

So taking one fault out of a run leaves every other draw in place. Nothing here keeps a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, TypeVar

__all__ = ["fraction", "fraction_of", "number", "number_of", "pick"]

T = TypeVar("T")

_STEPS: Final = 1 << 53
"""As many as a float tells apart."""


def number(*key: object) -> int:
    """64 bits of the key. Its parts are integers and texts: what prints alike everywhere.

    >>> number(1, "a", 2) == number(1, "a", 2), number(1, "a", 2) == number(1, "a2")
    (True, False)
    """
    return number_of("\x00".join(map(str, key)))


def number_of(key: str) -> int:
    """The same of a key whose parts are joined by `\\0`: for those that are asked for at each effect.

    >>> number_of("1\\0a\\x002") == number(1, "a", 2)
    True
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


def fraction(*key: object) -> float:
    """From 0 up to, but not including, 1."""
    return fraction_of("\x00".join(map(str, key)))


def fraction_of(key: str) -> float:
    """As `number_of`."""
    return (number_of(key) >> 11) / _STEPS


def pick(choices: Sequence[T], *key: object) -> T:
    """One of `choices`, each as often."""
    return choices[number(*key) % len(choices)]
