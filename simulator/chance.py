"""Chance that is keyed: each draw follows from the seed and from what it is for, never from what was drawn before.

So taking one fault out of a run leaves every other draw in place. Nothing here keeps a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, TypeVar

__all__ = ["fraction", "number", "pick"]

T = TypeVar("T")

_SPAN: Final = 1 << 64


def number(*key: object) -> int:
    """64 bits of the key. Its parts are integers and texts: what prints alike everywhere.

    >>> number(1, "a", 2) == number(1, "a", 2), number(1, "a", 2) == number(1, "a2")
    (True, False)
    """
    return int.from_bytes(blake2b("\x00".join(map(str, key)).encode(), digest_size=8).digest(), "big")


def fraction(*key: object) -> float:
    """From 0 up to, but not including, 1."""
    return (number(*key) >> 11) / (_SPAN >> 11)


def pick(choices: Sequence[T], *key: object) -> T:
    """One of `choices`, each as often."""
    return choices[number(*key) % len(choices)]
