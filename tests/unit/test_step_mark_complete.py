"""Mark on memory backends: whatever a register, a delta or a file of a retry claims, only what is proven ends."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import attrs
import pytest

from embedpipe.backends.batch_files import ItemError
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.layout import SEED
from embedpipe.lifecycle import Action, Status
from embedpipe.model import Record
from embedpipe.stages.mark_complete import retry_batch_id
from embedpipe.wire import Marked, Result
from tests.harness import Faults, crash, dies
from tests.worlds import SmallWorld

REFUSED = ItemError(status_code=400, code="bad_text", message="no")
LATER = ItemError(status_code=500, code="server_error", message="later")


def some(names: str, text: str = "1") -> list[Record]:
    return [Record(id=name, text=f"{name} {text}") for name in names]


def polled(*submissions: list[Record], error: ItemError | None = None) -> tuple[SmallWorld, list[str]]:
    """A world whose batches have their registers, and no execution has gathered them; and the batches by claim."""
    fates = {"a": error} if error else {}
    last = len(submissions)
    world = SmallWorld(lambda nth, _: attrs.evolve(GOOD, running=(), fates=fates if nth == last else {}))
    for records in submissions:
        world.pipeline().submit(records)
    names = [row.batch_id for row in world.pipeline().open_rows()]
    assert dies(Faults().before("objects.put", crash, on="/poll_results.json").pipeline(world).ingest)
    return world, names


def claim(world: SmallWorld, name: str, **changes: Any) -> Result:
    """Let the register of a batch say something else; what it said."""
    key = SEED.result_key(name)
    said = Result.load(world.objects.get(key).data, key)
    world.objects.put(key, attrs.evolve(said, **changes).dump())
    return said


def reasons(world: SmallWorld) -> dict[str, str]:
    """What one more execution says of what it does not end."""
    report = world.pipeline().ingest()
    key = SEED.marked_key(report.execution_id)
    marks = Marked.load(world.objects.get(key).data, key).marks
    return {mark.batch_id: mark.reason or "" for mark in marks if mark.outcome == "skipped"}


def status(world: SmallWorld, name: str) -> Status:
    return world.table.get_many([name])[name].status


def settles(world: SmallWorld) -> None:
    world.pipeline().run(timeout_s=1_000)
    assert world.violations(settled=True) == []


def test_the_delta_of_another_batch_proves_nothing() -> None:
    """In it the record is rejected; in its own batch it is not. Polling again does not mend it: it gives another retry set."""
    world, (first, second) = polled(some("a"), some("a", "2"), error=REFUSED)
    other = claim(world, second)
    changes = {"delta_key": other.delta_key, "delta_sha256": other.delta_sha256, "retry_sha256": "another"}
    said = claim(world, first, **changes)
    found = reasons(world)
    assert list(found) == [first]
    assert f"is the delta of batch '{second}'" in found[first]
    world.objects.put(SEED.result_key(first), said.dump())
    settles(world)


@pytest.mark.parametrize("more", [1, -1])
def test_a_delta_that_does_not_add_up_proves_nothing(more: int) -> None:
    world, (name,) = polled(some("abc"))
    said = claim(world, name)
    key = f"{said.delta_key}delta.json"
    whole = world.objects.get(key).data
    changed = json.dumps(json.loads(whole) | {"embedding_count": 3 + more}).encode()
    world.objects.put(key, changed)
    claim(world, name, delta_sha256=hashlib.sha256(changed).hexdigest())
    assert "accounts for 3 vectors, 0 rejected or to retry, of 3 records" in reasons(world)[name]
    assert status(world, name) is Status.PENDING
    world.objects.put(key, whole)
    world.objects.put(SEED.result_key(name), said.dump())
    settles(world)


def test_the_records_of_another_batch_prove_nothing() -> None:
    world, names = polled(some("abc"), some("xyz"))
    keys = [SEED.records_key(name) for name in names]
    files = [world.objects.get(key).data for key in keys]
    for key, data in zip(keys, reversed(files), strict=True):
        world.objects.put(key, data)
    found = reasons(world)
    assert {name: "fails its hash" in reason for name, reason in found.items()} == dict.fromkeys(names, True)
    for key, data in zip(keys, files, strict=True):
        world.objects.put(key, data)
    settles(world)


@pytest.mark.parametrize("file", ["request.jsonl", "records.arrow"])
def test_a_retry_whose_files_say_something_else_keeps_its_parent_open(file: str) -> None:
    world, (name,) = polled(some("abc"), error=LATER)
    key = f"requests/{retry_batch_id(name, 2, 0)}/{file}"
    world.objects.put(key, b"something else")
    assert "holds another retry than the delta says" in reasons(world)[name]
    assert [row.batch_id for row in world.observe().rows.values()] == [name]
    assert status(world, name) is Status.PENDING
    world.objects.delete(key)
    settles(world)


@pytest.mark.parametrize("vectors", [0, 3])
def test_a_result_without_a_delta_proves_nothing(vectors: int) -> None:
    """Where polling again does not mend it: here because it gives another retry set."""
    world, (name,) = polled(some("abc"))
    nothing = {"delta_key": None, "delta_id": None, "delta_sha256": None, "retry_sha256": "another"}
    said = claim(world, name, action=Action.HANDLE_FAILURE, embedding_count=vectors, **nothing)
    assert "names no delta" in reasons(world)[name]
    assert status(world, name) is Status.PENDING
    world.objects.put(SEED.result_key(name), said.dump())
    settles(world)


def test_a_failure_of_a_deployment_without_record_files_needs_no_proof() -> None:
    """The seed's failures have no delta, and no records that are known."""
    world, (name,) = polled(some("abc"))
    item = world.table.read_raw(name)
    assert item is not None
    world.table.write_raw({key: value for key, value in item.items() if key != "request_count"})
    failed = {"action": Action.HANDLE_FAILURE, "batch_status": "failed", "embedding_count": 0}
    claim(world, name, delta_key=None, delta_id=None, delta_sha256=None, **failed)
    assert reasons(world) == {}
    assert status(world, name) is Status.FAILED
