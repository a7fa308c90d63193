"""The traces that need the manners of AWS: functions that time out and are invoked again, deliveries that come late or twice,
Maps whose iterations fail, executions side by side. Told by number, run by the real state machines.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
from botocore.exceptions import ReadTimeoutError
from moto.core.models import botocore_stubber

from embedpipe.aws import state_machine
from embedpipe.aws.handlers import Handler
from embedpipe.backends.memory.behaviour import ChooseBehaviour
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.events import Published
from embedpipe.lifecycle import Action, Status
from embedpipe.limits import ID_CHARS_MAX, STATE_BYTES_MAX
from embedpipe.model import BatchRow, Claim, Kind, Record
from embedpipe.retry import RetryPolicy
from embedpipe.stages.submit import request_lines
from embedpipe.steps.context import Context
from embedpipe.wire import encode
from tests.aws import functions
from tests.aws.cloud import AwsWorld, Cloud, QuickWorld, cloud
from tests.aws.functions import Functions, put_records
from tests.harness import Crash, Faults, SnapshotVectors, crash
from tests.protocol.scenes import (
    QUICK,
    QUICK_ONE,
    SERVER_ERROR,
    behaviours,
    claims,
    records,
    settle,
    settle_snapshots,
    texts,
)
from tests.worlds import CONFIG, KIND, SmallWorld
from verify.invariants import check

ATTEMPTS = RetryPolicy().attempts
TIMED_OUT = "Sandbox.Timedout"
EXECUTION_CHARS_MAX = 80  # [aws] of the name of an execution

_faults: ContextVar[Faults | None] = ContextVar("_faults", default=None)
"""Of the process that runs in this thread."""


class Deployed:
    """Both state machines over one world."""

    def __init__(self, made: Cloud, world: SmallWorld) -> None:
        self.cloud, self.world = made, world
        self._submit = made.deploy(state_machine.submit(KIND), "submit")
        self._ingest = made.deploy(state_machine.ingest(KIND), "ingest")

    def submit(self, given: Sequence[Record], name: str) -> dict[str, Any]:
        """One execution of the submit machine."""
        event = put_records(self.world, given, name)
        return self.cloud.run(self._submit, name, {"records_s3_key": event["records_s3_key"]})

    def ingest(self, name: str) -> dict[str, Any]:
        """One execution of the ingest machine."""
        return self.cloud.run(self._ingest, name)

    def on(self, step: str, *lives: Callable[[], Faults]) -> list[Faults]:
        """The first invocations of a step meet these faults, one after the other; later ones and other steps none."""
        waiting, met = list(lives), list[Faults]()
        one = threading.Lock()

        def deliver(name: str, event: Mapping[str, Any], handle: Handler) -> dict[str, Any]:
            with one:
                faults = waiting.pop(0)() if name == step and waiting else None
            if faults is not None:
                met.append(faults)
            token = _faults.set(faults)
            try:
                return handle(event, None)
            finally:
                _faults.reset(token)

        self.cloud.deliver = deliver
        return met


@contextmanager
def deployed(
    behaviour: ChooseBehaviour = QUICK, *, kind_of_world: type[SmallWorld] = QuickWorld, **options: Any
) -> Iterator[Deployed]:
    """A world on AWS. Every invocation is a process of its own."""
    worlds: list[SmallWorld] = []

    def context() -> Context:
        faults = _faults.get()
        return (faults.pipeline(worlds[0]) if faults else worlds[0].pipeline()).context

    with cloud(context, sleep=lambda seconds: worlds[0].clock.sleep(seconds)) as made:
        worlds.append(kind_of_world(behaviour, **options))
        yield Deployed(made, worlds[0])
        if isinstance(worlds[0], AwsWorld):
            assert worlds[0].recorder.forbidden() == {}


def dies_before(effect: str, on: str = "") -> Callable[[], Faults]:
    return lambda: Faults().before(effect, crash, on=on)


def dies_after(effect: str, on: str = "") -> Callable[[], Faults]:
    return lambda: Faults().after(effect, crash, on=on)


def succeeded(ended: Mapping[str, Any]) -> bool:
    return bool(ended["status"] == "SUCCEEDED")


def side_by_side(call: Callable[[str], object], names: Sequence[str]) -> None:
    """One thread for each name."""
    threads = [threading.Thread(target=call, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_t01_two_submitters_at_once() -> None:
    """Two executions side by side, with other records each; S3 decides who moves the ledger first."""
    with deployed(kind_of_world=AwsWorld) as made:
        ended: list[dict[str, Any]] = []
        side_by_side(lambda name: ended.append(made.submit(records(name, "1"), f"s-{name}")), "abc")
        assert all(map(succeeded, ended))
        settle(made.world, texts("a b c", "1"))
        assert sorted(create.custom_ids for create in made.world.provider.paid) == [("a",), ("b",), ("c",)]


def test_t02_a_submitter_that_times_out_before_the_ledger_is_invoked_again() -> None:
    with deployed() as made:
        made.on("submit", dies_before("objects.put", "/head.json"))
        assert succeeded(made.submit(records("a b", "1"), "s0"))
        assert made.cloud.failures == [("submit", TIMED_OUT)]
        assert succeeded(made.submit(records("x", "1"), "s1"))
        settle(made.world, texts("a b x", "1"))
        assert len(made.world.provider.paid) == 2


def test_t07_a_submitter_invoked_again_after_another_claims_nothing_newer() -> None:
    """It had moved the ledger when it timed out, and the other was through before the second invocation."""
    with deployed() as made:

        def overtaken() -> None:
            functions.submit(made.world, records("r", "2"), "s1", Functions(made.world))
            crash()

        made.on("submit", lambda: Faults().after("objects.put", overtaken, on="/head.json"))
        assert succeeded(made.submit(records("r", "1"), "s0"))
        settle(made.world, texts("r", "2"))
        assert claims(made.world) == {"r": Claim(seq=2, attempt=1)}
        assert len(made.world.provider.paid) == 2


@pytest.mark.parametrize("step", ["submit", "create_pending"])
def test_t08_a_function_that_times_out_after_create_does_not_create_again(step: str) -> None:
    with deployed() as made:
        if step == "create_pending":
            made.on("submit", *[dies_before("provider.upload")] * ATTEMPTS)
            assert made.submit(records("a b", "1"), "s0")["status"] == "FAILED"
            made.on(step, dies_after("provider.create"))
        else:
            made.on(step, dies_after("provider.create"))
            assert succeeded(made.submit(records("a b", "1"), "s0"))
        assert succeeded(made.ingest("e0"))
        assert (step, TIMED_OUT) in made.cloud.failures
        settle(made.world, texts("a b", "1"))
        assert len(made.world.provider.creates) == 1
        assert made.world.ambiguous == set()


def test_t10_a_merge_that_times_out_in_the_middle_is_not_trusted() -> None:
    """ "2" is in the collection, and every invocation times out before the catalog; "1" comes again and equals the catalog."""
    with deployed() as made:
        made.submit(records("r", "1"), "s1")
        made.ingest("e1")
        made.submit(records("r", "2"), "s2")
        made.on("final_merge", *[dies_after("collection.upsert")] * ATTEMPTS)
        ended = made.ingest("e2")
        assert (ended["status"], ended["error"]) == ("FAILED", TIMED_OUT)
        assert made.world.observe().collection == texts("r", "2")
        made.submit(records("r", "1"), "s3")
        assert succeeded(made.ingest("e3"))
        settle(made.world, texts("r", "1"))


def test_t11_two_deployments_share_a_table_and_a_bucket() -> None:
    """Both machines run at once, with the same ids in both collections: each ends its own batches by its own catalog."""
    letters = Kind(KIND.name, database="letters", collection="letters")  # one type of batches, so one index for both
    worlds: dict[str, SmallWorld] = {}
    chosen: ContextVar[str] = ContextVar("chosen")

    def deliver(_: str, event: Mapping[str, Any], handle: Handler) -> dict[str, Any]:
        execution_id = event.get("execution_id") or event["batch_id"]  # the seed's name for it
        token = chosen.set(execution_id.partition("-")[0])
        try:
            return handle(event, None)
        finally:
            chosen.reset(token)

    with cloud(lambda: worlds[chosen.get()].pipeline().context) as made:
        made.deliver = deliver
        worlds["notes"] = QuickWorld(QUICK)
        worlds["letters"] = SmallWorld(QUICK, kind=letters)
        for store in ("objects", "table", "provider", "vectors", "clock"):
            setattr(worlds["letters"], store, getattr(worlds["notes"], store))
        machines = {name: made.deploy(state_machine.ingest(world.kind), name) for name, world in worlds.items()}
        for name, world in worlds.items():
            world.pipeline().submit(records("a b c d", name))
        side_by_side(lambda name: made.run(machines[name], f"{name}-1"), list(worlds))
        for name, world in worlds.items():
            seen = world.observe()
            assert {row.status for row in seen.rows.values()} == {Status.COMPLETED}
            assert check(seen, settled=True) == []
            assert seen.collection == texts("a b c d", name)


def test_t12_an_iteration_that_is_late_does_not_overwrite_a_result() -> None:
    """It has seen a running batch; another execution sees it ended and merges it; then the iteration writes what it saw."""
    with deployed(behaviours(attrs.evolve(QUICK_ONE, running=("in_progress",)))) as made:
        made.submit(records("a b", "1"), "s")
        second = lambda: functions.ingest(made.world, "e2", Functions(made.world))  # noqa: E731
        (met,) = [made.on("poll", lambda: Faults().before("objects.put", second, on="/result.json"))]
        assert succeeded(made.ingest("e1"))
        met[0].assert_struck()
        (register,) = made.world.observe().registers.values()
        assert (register.action, register.execution_id) == (Action.PROCESS_RESULTS, "e2")
        settle(made.world, texts("a b", "1"))


@pytest.mark.parametrize("effect", ["objects.upload", "table.put_new", "table.update"])
def test_t13_mark_times_out_between_the_retry_and_the_end_of_the_parent(effect: str) -> None:
    with deployed(behaviours(attrs.evolve(QUICK_ONE, fates={"a": SERVER_ERROR}))) as made:
        made.submit(records("a b", "1"), "s")
        made.on("mark_complete", dies_after(effect), dies_before(effect))
        assert succeeded(made.ingest("e"))
        assert ("mark_complete", TIMED_OUT) in made.cloud.failures
        assert made.world.violations() == []
        settle(made.world, texts("a b", "1"))
        assert claims(made.world) == {"a": Claim(seq=1, attempt=2), "b": Claim(seq=1, attempt=1)}
        assert len(made.world.provider.paid) == 2


def test_t15_a_foreign_project_fails_the_execution_and_changes_nothing() -> None:
    with deployed() as made:
        made.submit(records("a b c d", "1"), "s")
        before = made.world.observe().rows
        made.world.provider.foreign = True
        made.world.clock.sleep(made.world.config.policy.lost_after_s + 1_000)
        for name in ("e1", "e2"):
            ended = made.ingest(name)
            assert (ended["status"], ended["error"]) == ("FAILED", "ProviderMismatch")
            assert "API key" in json.loads(ended["cause"])["errorMessage"]
        assert made.cloud.failures == [("normalize", "ProviderMismatch")] * 2  # nothing that a repetition mends
        assert made.world.observe().rows == before
        made.world.provider.foreign = False
        assert succeeded(made.ingest("e3"))
        settle(made.world, texts("a b c d", "1"))
        assert len(made.world.provider.paid) == 2


def test_t17_an_execution_that_is_overtaken_while_it_publishes() -> None:
    with deployed() as made:
        made.world.vectors = SnapshotVectors()  # type: ignore[assignment]
        made.submit(records("a", "1"), "s1")

        def overtake() -> None:
            inner = Functions(made.world)
            functions.submit(made.world, records("b", "1"), "s2", inner)
            functions.ingest(made.world, "e2", inner)

        met = made.on("final_merge", lambda: Faults().before("objects.upload", overtake, on="/snapshot/"))
        assert succeeded(made.ingest("e1"))
        met[0].assert_struck()
        settle_snapshots(made.world, texts("a b", "1"))
        assert made.cloud.failures == []


@pytest.mark.parametrize("key", ["/latest.json", "/head.json", "/result.json"])
def test_t18_a_conditional_write_whose_answer_is_lost_on_the_wire(key: str) -> None:
    """S3 has done it; the function is invoked again and recognises what it did: in the pointer, the ledger, a register."""
    with deployed(kind_of_world=AwsWorld) as made:
        world = made.world
        assert isinstance(world, AwsWorld)
        world.vectors = SnapshotVectors()  # type: ignore[assignment]
        lost: list[str] = []

        def lose(operation: str, request: Any) -> None:
            if lost or operation != "PutObject" or not request.url.endswith(key):
                world.wire.faults.append(lose)
                return
            lost.append(request.url)
            botocore_stubber.process_request(request)
            raise ReadTimeoutError(endpoint_url=request.url)

        world.wire.faults.append(lose)
        assert succeeded(made.submit(records("a", "1"), "s"))
        assert succeeded(made.ingest("e"))
        world.wire.faults.clear()
        assert len(lost) == 1
        seen = settle_snapshots(world, texts("a", "1"))
        assert seen.latest is not None
        assert seen.latest.n == len(seen.snapshots) == 1  # nobody published the same again
        assert len(world.provider.paid) == 1


@pytest.mark.parametrize("name", ["vectors.arrow", "delta.json"])
def test_t20_a_delta_damaged_between_two_states_is_replaced(name: str) -> None:
    with deployed() as made:
        made.submit(records("a b c", "1"), "s")

        def deliver(step: str, event: Mapping[str, Any], handle: Handler) -> dict[str, Any]:
            if step == "normalize":
                for info in list(made.world.objects.list("")):
                    if info.key.endswith(name) and "/delta/" in info.key:
                        made.world.objects.put(info.key, b"damaged")
            return handle(event, None)

        made.cloud.deliver = deliver
        assert succeeded(made.ingest("e1"))
        made.on("none")
        assert [row.status for row in made.world.observe().rows.values()] == [Status.PENDING]
        assert succeeded(made.ingest("e2"))
        settle(made.world, texts("a b c", "1"))
        assert len(made.world.provider.paid) == 1


# --- what has no number --------------------------------------------------------------------------------------------

FEW_INLINE = attrs.evolve(CONFIG, policy=attrs.evolve(CONFIG.policy, inline_batches_max=2, chunk_rows=1))


@pytest.mark.parametrize("config", [CONFIG, FEW_INLINE], ids=["inline", "distributed"])
@pytest.mark.parametrize("step", ["poll", "process_chunk"])
def test_an_iteration_that_fails_for_good_costs_itself_alone(step: str, config: Any) -> None:
    """Its error is none that a repetition mends; or every repetition times out."""
    with deployed(config=attrs.evolve(config, limits=attrs.evolve(config.limits, requests_per_batch=1))) as made:
        made.submit(records("a b c d", "1"), "s")
        dead: list[object] = []

        def deliver(name: str, event: Mapping[str, Any], handle: Handler) -> dict[str, Any]:
            item = event.get("batch_id", event.get("index"))
            if name == step and len(dead) < 2 and item not in dead:
                dead.append(item)
            if name == step and item in dead:
                if dead.index(item):
                    raise Crash
                raise ValueError("a bug in one iteration")
            return handle(event, None)

        made.cloud.deliver = deliver
        assert succeeded(made.ingest("e1"))
        errors = [error for failed, error in made.cloud.failures if failed == step]
        assert sorted(errors) == [TIMED_OUT] * ATTEMPTS + ["ValueError"]
        seen = made.world.observe()
        ended = sum(row.status is Status.COMPLETED for row in seen.rows.values())
        lost_chunks = step == "process_chunk" and config is CONFIG  # several batches share a chunk there
        assert ended == (0 if lost_chunks else 2)
        assert made.world.violations() == []
        if step == "poll":
            assert sum(result.action is Action.UNREADABLE_RESULT for result in seen.poll_results["e1"]) == 2
        made.on("none")
        assert succeeded(made.ingest("e2"))
        settle(made.world, texts("a b c d", "1"))
        assert len(made.world.provider.paid) == 4


def test_a_state_of_the_longest_names_is_far_from_its_limit() -> None:
    """As many batches as travel inline, of a deployment of the seed's design, whose names may be as long as names may be."""
    world = SmallWorld(QUICK)
    world.objects = MemoryBlobStore("b" * 63)
    ctx = world.pipeline().context
    (line,) = request_lines(["r"], ["text"], ctx.model)
    with ctx.scratch() as folder:
        (folder / "request.jsonl").write_bytes(line)
        for number in range(ctx.policy.inline_batches_max):
            name = f"{number:02d}".ljust(ID_CHARS_MAX, "x")
            file = world.provider.upload(folder / "request.jsonl")
            made = world.provider.create(file, {"batch_id": name})
            pending = BatchRow(
                batch_id=name, batch_type=KIND.batch_type, status=Status.PENDING, provider_batch_id=made.id
            )
            assert world.table.put_new(pending)
    state = functions.ingest(world, "e" * EXECUTION_CHARS_MAX, Functions(world))
    assert state["mark_result"]["batches_marked"] == ctx.policy.inline_batches_max
    assert len(encode(state)) < STATE_BYTES_MAX / 3


def test_executions_side_by_side() -> None:
    """A schedule that does not wait for the last one to end; S3 and DynamoDB decide the races."""
    with deployed(behaviours(attrs.evolve(QUICK_ONE, fates={"a": SERVER_ERROR})), kind_of_world=AwsWorld) as made:
        made.world.vectors = SnapshotVectors()  # type: ignore[assignment]
        made.submit(records("a b", "1"), "s1")
        made.submit(records("b c", "2"), "s2")
        ended: list[dict[str, Any]] = []
        side_by_side(lambda name: ended.append(made.ingest(name)), ["e1", "e2", "e3"])
        assert all(map(succeeded, ended))
        settle_snapshots(made.world, texts("a", "1") | texts("b c", "2"))
        assert len(made.world.provider.paid) == 3


def test_every_invocation_comes_twice() -> None:
    """At least once, it says. The second output is the one that counts."""
    with deployed(behaviours(*[attrs.evolve(QUICK_ONE, fates={"a": SERVER_ERROR})] * 2)) as made:

        def twice(_: str, event: Mapping[str, Any], handle: Handler) -> dict[str, Any]:
            handle(event, None)
            return handle(event, None)

        made.cloud.deliver = twice
        assert succeeded(made.submit(records("a b c d e", "1"), "s"))
        for name in ("e1", "e2", "e3"):
            assert succeeded(made.ingest(name))
            made.world.clock.sleep(100)
        settle(made.world, texts("a b c d e", "1"), executions=0)
        assert len(made.world.provider.paid) == 3
        assert len([event for event in made.world.events if isinstance(event, Published)]) == 2


def test_a_merge_that_needs_longer_than_a_function_may_run_is_called_again() -> None:
    """Its time budget is used up after every version: it answers `more`, and the state machine comes back."""
    short = attrs.evolve(CONFIG, policy=attrs.evolve(CONFIG.policy, chunk_rows=1, merge_rows=1, merge_budget_s=1e-9))
    with deployed(config=short) as made:
        tick = made.world.clock.monotonic_s
        made.world.clock.monotonic_s = lambda: (made.world.clock.sleep(1), tick())[1]  # type: ignore[method-assign]
        made.submit(records("a b c d e f g", "1"), "s")
        ended = made.ingest("e")
        assert succeeded(ended)
        names = [name for name, _ in made.cloud.invocations]
        assert names.count("final_merge") == names.count("process_chunk") == 3
        settle(made.world, texts("a b c d e f g", "1"), executions=0)
