"""The one retry policy. The engine repeats whole steps, which are idempotent; nothing else repeats anything.

`delays` is pure, and the state machine's `Retry` is generated from the same value, so both engines wait alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

from embedpipe.errors import Throttled, Transient
from embedpipe.limits import pause_s
from embedpipe.ports import Clock

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Exponential backoff, without jitter where one process runs; a service's own advice counts if it is longer.

    The advice is bounded by `limits.PAUSE_MAX_S`.
    """

    attempts: int = attrs.field(default=6, validator=attrs.validators.gt(0))
    """Calls in all, the first included."""
    first_delay_s: float = attrs.field(default=0.5, validator=attrs.validators.ge(0))
    rate: float = attrs.field(default=2.0, validator=attrs.validators.ge(1))
    delay_max_s: float = attrs.field(default=30.0, validator=attrs.validators.ge(0))

    def delays(self) -> Iterator[float]:
        """Seconds to wait before each repetition.

        >>> list(RetryPolicy(attempts=4, first_delay_s=1, rate=3, delay_max_s=5).delays())
        [1.0, 3.0, 5.0]
        """
        delay_s = float(self.first_delay_s)
        for _ in range(self.attempts - 1):
            yield min(delay_s, float(self.delay_max_s))
            delay_s *= self.rate


def call(work: Callable[[], T], policy: RetryPolicy, clock: Clock) -> T:
    """`work()`, repeated while it raises `Transient`; the last error is raised as it is."""
    for delay_s in policy.delays():
        try:
            return work()
        except Transient as error:
            advice_s = error.retry_after_s if isinstance(error, Throttled) else None
            clock.sleep(max(delay_s, pause_s(advice_s)))
    return work()
