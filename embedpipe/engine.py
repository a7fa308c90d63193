"""The local engine: walks `flow.INGEST` in this process, threads as fan-out, `retry` around each step.

It holds no decision of its own. A step that fails for good ends the walk; an iteration of a fan-out ends alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs

from embedpipe import events, flow, retry
from embedpipe.errors import CorruptData, MisuseError, ServiceError
from embedpipe.retry import RetryPolicy
from embedpipe.steps.call import CALLS
from embedpipe.steps.context import Context
from embedpipe.wire import decode

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Walked:
    """How one execution went."""

    state: Mapping[str, Any]
    """The workflow's state at its end."""
    failed_polls: frozenset[int]
    """Places in the listing."""


def invoke(ctx: Context, name: str, event: Mapping[str, Any], policy: RetryPolicy) -> dict[str, Any]:
    """One step, repeated as the policy says."""
    ctx.checkpoint()
    return retry.call(lambda: CALLS[name](ctx, event), policy, ctx.clock)


def ingest(ctx: Context, *, execution_id: str, policy: RetryPolicy, threads: int) -> Walked:
    """One execution of the ingest flow."""
    failures = _Failures()

    def fan_out(step: flow.Step, items: Sequence[Mapping[str, Any]], work: Callable[[int], T]) -> list[T | None]:
        def one(at: int) -> T | None:
            try:
                output = work(at)
            except (ServiceError, MisuseError, CorruptData) as error:
                failures.add(step.name, at)
                ctx.on_event(events.ItemFailed(execution_id=execution_id, step=step.name, index=at, error=str(error)))
                return None
            ctx.on_event(events.StepFinished(execution_id=execution_id, step=step.name, index=at))
            return output

        ctx.on_event(events.StepStarted(execution_id=execution_id, step=step.name, items=len(items)))
        if not items:
            return []
        with ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="embedpipe") as pool:
            return list(pool.map(one, range(len(items))))

    state = flow.walk(
        flow.INGEST,
        {"execution_id": execution_id},
        invoke=lambda name, event: invoke(ctx, name, event, policy),
        fan_out=fan_out,
        read_items=lambda stored, name: _read_items(ctx, stored, name),
    )
    return Walked(state=state, failed_polls=failures.of("poll"))


def _read_items(ctx: Context, stored: str, execution_id: str) -> Sequence[Mapping[str, Any]]:
    key: str = getattr(ctx.layout, stored)(execution_id)
    items: Sequence[Mapping[str, Any]] = decode(ctx.objects.get(key).data, key)
    return items


class _Failures:
    """Failed iterations by step; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: set[tuple[str, int]] = set()

    def add(self, step: str, at: int) -> None:
        """Note one."""
        with self._lock:
            self._found.add((step, at))

    def of(self, step: str) -> frozenset[int]:
        """Which there were."""
        return frozenset(at for name, at in self._found if name == step)


class Tally:
    """Passes events on, one at a time, and remembers what the reports need."""

    def __init__(self, on_event: events.OnEvent) -> None:
        self._on_event = on_event
        self._lock = threading.Lock()
        self.ambiguous: set[str] = set()
        """Batches whose create had no answer."""
        self.last_error = ""
        """Of a failed iteration."""

    def __call__(self, event: events.RunEvent) -> None:
        with self._lock:
            if isinstance(event, events.AmbiguousCreate):
                self.ambiguous.add(event.batch_id)
            elif isinstance(event, events.ItemFailed):
                self.last_error = event.error
            self._on_event(event)
