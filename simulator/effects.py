"""The switch point of every port call: time passes, a fault may strike, the effect happens, the trace has it.

Here alone is said what a fault does. The order is: the effect is asked for, its latency passes while others run, and at its
moment it happens, or does not, or happens and is not heard of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from embedpipe.errors import Throttled, Unavailable, WriteConflict
from simulator.chance import number_of
from simulator.faults import Fault, Faults
from simulator.kernel import SECOND_US, Kernel

__all__ = ["Effects", "Happened"]

T = TypeVar("T")

LATENCIES_US: Final = (
    *(((2_000, 60_000),) * 45),
    *(((60_000, 600_000),) * 4),
    (600_000, 6 * SECOND_US),
)
"""[ours] Least and greatest latency of a call to a service, each as often. Most are quick; the tail is long, so that others
overtake."""
SLOW_US: Final = (30 * SECOND_US, 1_200 * SECOND_US)
"""Of a slow one; more than a function of Lambda may run."""
PAUSE_US: Final = (100_000, 8 * SECOND_US)
"""[ours] Of a pause: long enough that another execution's step, or all of it, comes first."""
WAITS_US: Final[Mapping[Fault | None, tuple[int, int]]] = MappingProxyType({Fault.SLOW: SLOW_US, Fault.PAUSE: PAUSE_US})

HEARD: Final = frozenset(
    {
        *(Fault.SLOW, Fault.PAUSE, Fault.LAG, Fault.CORRUPT, Fault.SKEW, Fault.FOREIGN),
        *(Fault.DUPLICATE, Fault.LATE_DUPLICATE),
    }
)
"""The caller gets an answer, be it a strange one."""
HAPPENS: Final = HEARD | {Fault.ABORTED, Fault.CRASH_AFTER, Fault.CRASH_HALF, Fault.ANSWER_LOST}
DIES: Final = frozenset({Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.CRASH_HALF, Fault.ABORTED})
NOTHING: Final[Mapping[Fault, Callable[[], Any]]] = MappingProxyType({})


class Happened(NamedTuple):
    """One line of a trace."""

    at_us: int
    actor: str
    effect: str
    nth: int
    on: str
    fault: str
    """Empty where none struck."""
    outcome: str
    """`ok`, the code of an error, or `never`."""

    def line(self) -> str:
        """As the trace prints it."""
        seconds, us = divmod(self.at_us, SECOND_US)
        fault = f"  !{self.fault}" if self.fault else ""
        return f"{seconds:>7}.{us:06d}  {self.actor}  {self.effect}#{self.nth} {self.on}  {self.outcome}{fault}"


class Effects:
    """Runs the effects of one world."""

    def __init__(self, kernel: Kernel, faults: Faults, seed: int) -> None:
        self.kernel = kernel
        self.faults = faults
        self.seed = seed
        self.trace: list[Happened] = []

    def perform(
        self, effect: str, on: str, do: Callable[[], T], instead: Mapping[Fault, Callable[[], T]] = NOTHING
    ) -> T:
        """`do()` at its moment. Outside of all actors it happens at once: that is the world looking at itself.

        `instead`: what happens in place of it under faults that only the service itself can act out.
        """
        kernel = self.kernel
        actor = kernel.current
        if actor is None or kernel.closed:
            kernel.refuse_when_closed()
            return do()
        nth = actor.next(effect)
        fault = self.faults.strike(actor.name, effect, nth)
        draw = number_of(f"{self.seed}\0{actor.name}\0{effect}\0{nth}\0latency")
        kernel.wait(_between(WAITS_US.get(fault) or LATENCIES_US[draw % len(LATENCIES_US)], draw))
        if fault is None:
            return self._noted(effect, nth, on, "", do)
        return self._struck(effect, nth, on, fault, instead.get(fault, do))

    def _struck(self, effect: str, nth: int, on: str, fault: Fault, do: Callable[[], T]) -> T:
        if fault in HAPPENS:
            result = self._noted(effect, nth, on, fault, do)
            if fault in HEARD:
                return result
        else:
            self._note(effect, nth, on, fault, "never")
        if fault in DIES:
            self.kernel.die()
        if fault is Fault.THROTTLED:
            raise Throttled(f"{effect}: too many requests.")
        if fault is Fault.CONFLICT:
            raise WriteConflict(f"{effect} {on}: a race could not be decided.")
        raise Unavailable(f"{effect} {on}: no answer.")

    def _noted(self, effect: str, nth: int, on: str, fault: str, do: Callable[[], T]) -> T:
        try:
            result = do()
        except Exception as error:
            self._note(effect, nth, on, fault, getattr(error, "code", type(error).__name__))
            raise
        self._note(effect, nth, on, fault, "ok")
        return result

    def _note(self, effect: str, nth: int, on: str, fault: str, outcome: str) -> None:
        actor = self.kernel.current
        name = actor.name if actor else ""
        self.trace.append(Happened(self.kernel.now_us, name, effect, nth, on, fault, outcome))


def _between(span_us: tuple[int, int], draw: int) -> int:
    low_us, high_us = span_us
    return low_us + (draw >> 8) % (high_us - low_us)
