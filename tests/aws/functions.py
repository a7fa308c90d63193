"""The functions of a deployment without its state machine: every invocation is a process of its own, and may die or come twice.

The order of the steps is `flow`'s, the handlers are the real ones. For what only the state machine does, see `cloud`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from embedpipe import flow
from embedpipe.aws.handlers import handler
from embedpipe.errors import CorruptData, MisuseError, ServiceError, Transient
from embedpipe.model import Record
from embedpipe.wire import decode
from tests.aws.cloud import step_now
from tests.harness import Crash, Watched, WatchedVectors
from tests.worlds import SmallWorld

RECORDS_KEY: Final = "input/{execution_id}.jsonl"
WRITES: Final = frozenset(
    {
        "objects.put",
        "objects.upload",
        "objects.delete",
        "table.put_new",
        "table.update",
        "provider.upload",
        "provider.create",
        "collection.upsert",
        "collection.delete",
        "edition.seal",
    }
)
"""Calls of the ports that change something."""
ATTEMPTS: Final = 4
"""As the state machine's `Retry`."""

Event = Mapping[str, Any]
Deliver = Callable[[str, Event], dict[str, Any]]


class Process:
    """Where one invocation runs: `after_write(n, effect)` is called after its n-th effect, and nothing after a `Crash`."""

    def __init__(self, after_write: Callable[[str], None]) -> None:
        self._after_write = after_write
        self.dead = False

    def around(self, effect: str, argument: str, call: Callable[[], Any]) -> Any:
        """One call of a port."""
        if self.dead:
            raise Crash  # a killed function runs no `finally`
        try:
            return call()
        finally:
            if effect in WRITES:
                self._after(f"{effect} {argument}".strip())

    def _after(self, said: str) -> None:
        try:
            self._after_write(said)
        except Crash:
            self.dead = True
            raise


class Functions:
    """The deployed functions. Called with the name of a step and its event; JSON comes in and goes out."""

    def __init__(self, world: SmallWorld, after_write: Callable[[str, str], None] = lambda _, __: None) -> None:
        self._world = world
        self._after_write = after_write
        """Told the step and the effect."""

    def __call__(self, name: str, event: Event) -> dict[str, Any]:
        process = Process(lambda effect: self._after_write(name, effect))
        world = self._world

        def context() -> Any:
            return world.pipeline(
                objects=Watched(world.objects, "objects", process),  # type: ignore[arg-type]  # its `around` is all it needs
                table=Watched(world.table, "table", process),  # type: ignore[arg-type]
                provider=Watched(world.provider, "provider", process),  # type: ignore[arg-type]
                vectors=WatchedVectors(world.vectors, process),  # type: ignore[arg-type]
            ).context

        token = step_now.set(name)
        try:
            given = json.loads(json.dumps(event))
            output: dict[str, Any] = json.loads(json.dumps(handler(name, context)(given, None)))
            return output
        finally:
            step_now.reset(token)


def again_after_a_crash(deliver: Deliver) -> Deliver:
    """What the state machine's `Retry` makes of it."""

    def delivered(name: str, event: Event) -> dict[str, Any]:
        for _ in range(ATTEMPTS):
            try:
                return deliver(name, event)
            except (Crash, Transient):
                continue
        return deliver(name, event)

    return delivered


def ingest(world: SmallWorld, execution_id: str, deliver: Deliver) -> flow.State:
    """One execution."""

    def fan_out(_: flow.Step, items: Sequence[Event], work: Callable[[int], Any]) -> list[Any]:
        return [caught(work, at) for at in range(len(items))]

    def caught(work: Callable[[int], Any], at: int) -> Any:
        try:
            return work(at)
        except (ServiceError, MisuseError, CorruptData):
            return None  # as the Map's `Catch`

    def read_items(stored: str, name: str) -> Any:
        key = getattr(world.config.layout, stored)(name)
        return decode(world.objects.get(key).data, key)

    return flow.walk(
        flow.INGEST, {"execution_id": execution_id}, invoke=deliver, fan_out=fan_out, read_items=read_items
    )


def put_records(world: SmallWorld, records: Sequence[Record], execution_id: str) -> dict[str, Any]:
    """Store records to submit: the event of the submission."""
    key = RECORDS_KEY.format(execution_id=execution_id)
    lines = [
        json.dumps({"id": record.id, "text": record.text, "metadata": dict(record.metadata)}) for record in records
    ]
    world.objects.put(key, "\n".join(lines).encode())
    return {"execution_id": execution_id, "records_s3_key": key}


def submit(world: SmallWorld, records: Sequence[Record], execution_id: str, deliver: Deliver) -> dict[str, Any]:
    """One submission."""
    return deliver("submit", put_records(world, records, execution_id))


def run_out(world: SmallWorld, *, executions: int = 12, pause_s: float = 100.0) -> None:
    """Faults have stopped: a bounded number of executions ends everything, and every guarantee holds."""
    deliver = again_after_a_crash(Functions(world))
    for number in range(executions):
        if not world.pipeline().open_rows() and number:
            break
        ingest(world, f"last-{number}", deliver)
        world.clock.sleep(pause_s)
    assert world.violations(settled=True) == []
