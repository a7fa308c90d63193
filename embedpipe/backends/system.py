"""The system's clock: the only module of the package that asks the machine for the time, a pause or a fresh id.

Everything else is given a `Clock`, so that a test or the simulator decides what time it is.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedpipe.ports import Clock

__all__ = ["SystemClock"]


class SystemClock:
    """The machine's time and random UUIDs. Has no state, so one may serve all threads."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let the calling thread wait; at once for 0 and less."""
        time.sleep(max(0.0, seconds))

    def new_id(self) -> str:
        """A random UUID."""
        return str(uuid.uuid4())


if TYPE_CHECKING:
    _: type[Clock] = SystemClock
