"""Virtual time: it passes only when somebody sleeps or says so, and ids follow from a seed.

Two clocks with one start and seed that are asked the same things in the same order answer the same.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from embedpipe.ports import Clock

__all__ = ["MemoryClock"]

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryClock:
    """A clock that never waits. Threads share it: a sleep of any of them moves the time of all.

    >>> clock = MemoryClock()
    >>> clock.sleep(90)
    >>> clock.now().isoformat(), clock.monotonic_s()
    ('2026-01-01T00:01:30+00:00', 90.0)
    """

    def __init__(self, start: datetime = START, *, seed: int | str = 0) -> None:
        if start.tzinfo is None:
            raise ValueError("MemoryClock: start has no time zone. Give an aware datetime.")
        self._start = start.astimezone(UTC)
        self._seed = seed
        self._elapsed_us = 0  # whole microseconds, so that many small sleeps add up exactly
        self._ids = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Aware UTC."""
        with self._lock:
            return self._start + timedelta(microseconds=self._elapsed_us)

    def monotonic_s(self) -> float:
        """Seconds since the start."""
        with self._lock:
            return self._elapsed_us / 1_000_000

    def sleep(self, seconds: float) -> None:
        """Move time on and return at once; time never goes back."""
        with self._lock:
            self._elapsed_us += max(0, round(seconds * 1_000_000))

    def new_id(self) -> str:
        """The next id of the seed, in the form of a UUID."""
        with self._lock:
            self._ids += 1
            name = f"{self._seed}|{self._ids}"
        return str(uuid.UUID(bytes=hashlib.blake2b(name.encode(), digest_size=16).digest(), version=4))


if TYPE_CHECKING:
    _: type[Clock] = MemoryClock
