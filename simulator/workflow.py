"""Lambda and Step Functions as actors: an execution walks `flow`, and each call of a step is an invocation of its own.

An invocation is delivered at least once, may be killed at any effect, and ends with its time; the execution repeats it as the
state machine's `Retry` says. What may be repeated and how long is waited is the one retry policy's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from embedpipe import flow
from embedpipe.errors import CorruptData, MisuseError, ServiceError, Transient, Unavailable
from embedpipe.retry import RetryPolicy
from embedpipe.steps.call import CALLS
from embedpipe.steps.context import Context
from embedpipe.wire import decode
from simulator.chance import fraction
from simulator.effects import Effects
from simulator.faults import Fault
from simulator.kernel import SECOND_US, Actor, Killed

__all__ = ["Workflow"]

FUNCTION_S: Final = 900
"""[aws] The longest that a function may run."""
LATE_S: Final = (1.0, 1_200.0)
"""[ours] How much later a second delivery comes, at least and at most; each magnitude is as likely."""
SKEW_S: Final = 7_200
"""[ours] By how much a wrong clock is at most wrong, either way."""
MAP_CONCURRENCY: Final = 40
"""[aws] About what an inline Map reaches."""


Look = Callable[[str, Mapping[str, Any]], None]


class Workflow:
    """Runs executions of one deployment. `deployed`: what an invocation that begins now runs with.

    `look`: what is to see the result of each step.
    """

    def __init__(self, deployed: Callable[[], Context], effects: Effects, policy: RetryPolicy, look: Look) -> None:
        self._deployed = deployed
        self._effects = effects
        self._kernel = effects.kernel
        self._policy = policy
        self._look = look

    def start(self, execution_id: str, *, after_s: float = 0.0) -> Actor:
        """An execution of the ingest flow begins `after_s` from now."""
        return self._kernel.spawn(execution_id, lambda: self._walk(execution_id), after_us=round(after_s * SECOND_US))

    def _walk(self, execution_id: str) -> Mapping[str, Any]:
        return flow.walk(
            flow.INGEST,
            {"execution_id": execution_id},
            invoke=lambda name, event: self._task(execution_id, name, event),
            fan_out=lambda step, items, work: self._map(execution_id, step, len(items), work),
            read_items=self._stored,
        )

    def _stored(self, stored: str, execution_id: str) -> Sequence[Mapping[str, Any]]:
        ctx = self._deployed()
        key: str = getattr(ctx.layout, stored)(execution_id)
        items: Sequence[Mapping[str, Any]] = decode(ctx.objects.get(key).data, key)
        return items

    # --- one task -------------------------------------------------------------------------------------------------

    def _task(self, execution_id: str, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """A Task state: invocations until one answers, or the policy has had enough."""
        perform, kernel = self._effects.perform, self._kernel
        perform("execution.state", name, lambda: None)
        for attempt, delay_s in enumerate([*self._policy.delays(), None], 1):
            where = kernel.current.name if kernel.current else execution_id
            try:
                return self._invoke(f"{where}/{name}", name, event)
            except (Transient, Killed) as error:
                if delay_s is None:
                    raise Unavailable(f"{name} failed {attempt} times.") from error
                jitter = fraction(self._effects.seed, where, name, attempt, "jitter")
                kernel.wait(round(delay_s * (1 + jitter) * SECOND_US))
        raise AssertionError("the last attempt returns or raises")

    def _invoke(self, where: str, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        kernel = self._kernel

        def deliver(copy: str, after_s: float = 0.0) -> Actor:
            return kernel.spawn(
                f"{where}#{kernel.unique(where)}{copy}",
                lambda: CALLS[name](self._deployed(), event),
                after_us=round(after_s * SECOND_US),
                lasts_us=FUNCTION_S * SECOND_US,
            )

        def twice(after_s: float = 0.0) -> Actor:
            deliver("-again", after_s)
            return deliver("")

        def twice_apart() -> Actor:
            least_s, most_s = LATE_S
            return twice(least_s * (most_s / least_s) ** fraction(self._effects.seed, where, name, "late"))

        def skewed() -> Actor:
            actor = deliver("")
            actor.skew_us = round((fraction(self._effects.seed, actor.name, "skew") - 0.5) * 2 * SKEW_S * SECOND_US)
            return actor

        instead = {Fault.DUPLICATE: twice, Fault.LATE_DUPLICATE: twice_apart, Fault.SKEW: skewed}
        actor = self._effects.perform("lambda.invoke", name, lambda: deliver(""), instead)
        kernel.join([actor])
        result: dict[str, Any] = kernel.result_of(actor)
        self._look(name, result)
        return result

    # --- a map ----------------------------------------------------------------------------------------------------

    def _map(self, execution_id: str, step: flow.Step, count: int, work: Callable[[int], Any]) -> list[Any]:
        """Iterations side by side; each that fails costs itself."""
        kernel = self._kernel
        outputs: list[Any] = [None] * count
        waiting = iter(range(count))

        def worker() -> None:
            for at in waiting:
                try:
                    outputs[at] = work(at)
                except (ServiceError, MisuseError, CorruptData):
                    outputs[at] = None

        parent = kernel.current.name if kernel.current else execution_id
        workers = [
            kernel.spawn(f"{parent}/{step.name}[{number}]", worker) for number in range(min(MAP_CONCURRENCY, count))
        ]
        kernel.join(workers)
        for each in workers:
            if not each.killed:
                kernel.result_of(each)
        return outputs
