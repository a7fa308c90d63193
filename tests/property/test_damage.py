"""Damage to stored objects costs only what it hits, and what can be derived again is derived again."""

from __future__ import annotations

from contextlib import suppress

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedpipe import engine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.errors import CorruptData, Incomplete, NewerSchema, ServiceError
from embedpipe.events import CreateRefused
from embedpipe.lifecycle import Status
from embedpipe.model import Record
from tests.harness import Faults, crash, dies
from tests.worlds import CONFIG, SmallWorld, greatest_claims
from verify.invariants import check

RECORDS = [Record(id=f"r{number}", text=f"text {number}") for number in range(7)]
GARBAGE = st.sampled_from([b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"batch_id": 7}', b'{"action": "wait"}'])


def quick() -> SmallWorld:
    return SmallWorld(lambda *_: attrs.evolve(GOOD, running=()))


def derived(objects: MemoryBlobStore) -> list[str]:
    """Objects that are made anew when an execution is repeated: registers and deltas."""
    return [info.key for info in objects.list("") if info.key.startswith("poll_results/") or "/delta/" in info.key]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), GARBAGE)
def test_a_damaged_register_or_delta_is_made_again(data, garbage):
    """Damage between the polls and the marks of one execution; the next ones mend it."""
    world = quick()
    pipe = world.pipeline()
    pipe.submit(RECORDS)
    for name in ("create_pending", "list_pending"):
        engine.invoke(pipe.context, name, {"execution_id": "first"}, CONFIG.retry)
    for row in pipe.open_rows():
        engine.invoke(pipe.context, "poll", {"execution_id": "first", "batch_id": row.batch_id}, CONFIG.retry)
    key = data.draw(st.sampled_from(derived(world.objects)))
    if data.draw(st.booleans()):
        world.objects.put(key, garbage)
    else:
        world.objects.delete(key)
    report = world.pipeline().run(RECORDS, timeout_s=1_000)
    assert report.batches == 0
    assert world.violations(settled=True) == []
    seen = world.observe()
    assert greatest_claims(seen) == {record.id: record.text for record in RECORDS}
    assert len(seen.catalog) == len(RECORDS)
    assert len(seen.creates) == len(seen.rows)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), GARBAGE)
def test_damage_anywhere_never_completes_or_submits_what_it_should_not(data, garbage):
    """Any object at all, at any time: an error that says so is fine, a false COMPLETED or a second payment is not."""
    world = quick()
    pipe = world.pipeline()
    pipe.submit(RECORDS[:4])
    for _ in range(data.draw(st.integers(0, 2))):
        pipe.ingest()
    key = data.draw(st.sampled_from([info.key for info in world.objects.list("") if "snapshot" not in info.key]))
    was = world.objects.get(key).data
    world.objects.put(key, garbage)
    with suppress(CorruptData, ServiceError, Incomplete):
        world.pipeline().run(RECORDS, timeout_s=300)
    assert len(world.provider.paid) == len({create.metadata["batch_id"] for create in world.provider.paid})
    if world.objects.get(key).data == garbage:
        world.objects.put(key, was)
    world.pipeline().run(RECORDS, timeout_s=1_000)
    seen = world.observe()
    assert check(seen, settled=True) == []
    assert greatest_claims(seen) == {record.id: record.text for record in RECORDS}


# --- batches that are not created yet ------------------------------------------------------------------------------


def intents() -> SmallWorld:
    """Three batches of a submitter that died before it uploaded any file."""
    world = quick()
    faults = Faults().before("provider.upload", crash)
    assert dies(lambda: faults.pipeline(world).submit(RECORDS))
    return world


@pytest.mark.parametrize("garbage", [None, b"", b"{", b"\xff"])
def test_a_request_file_that_is_lost_or_damaged_stops_no_other_batch(garbage: bytes | None) -> None:
    world = intents()
    first = world.pipeline().open_rows()[0]
    key = world.config.layout.requests_key(first.batch_id)
    records = world.config.layout.records_key(first.batch_id)
    whole = {name: world.objects.get(name).data for name in (key, records)}
    for name in (key, records):  # from its records alone it would be made again
        if garbage is None:
            world.objects.delete(name)
        else:
            world.objects.put(name, garbage)
    report = world.pipeline().ingest()
    assert (report.created, report.marked, report.waiting) == (2, 2, 1)
    assert [row.status for row in world.pipeline().open_rows()] == [Status.INTENT]
    (refusal,) = report.refusals
    assert first.batch_id in refusal
    assert records in refusal
    assert "Restore it from a backup" in refusal
    refused = [event for event in world.events if isinstance(event, CreateRefused)]
    assert [(event.batch_id, event.reason) for event in refused] == [(first.batch_id, "corrupt")]
    with pytest.raises(ServiceError, match=records):  # a run says it, and does not wait for ever
        world.pipeline().run()
    assert world.pipeline().submit([]).waiting == 1
    for name, data in whole.items():
        world.objects.put(name, data)
    world.pipeline().run()
    assert world.violations(settled=True) == []
    assert len(world.observe().catalog) == len(RECORDS)
    assert len(world.provider.paid) == 3


@pytest.mark.parametrize("count", [3, 7], ids=["the only batch", "one of three"])
def test_a_damaged_register_of_a_batch_without_a_create_mends_itself(count: int) -> None:
    """It may have said that the create is lost, and then a create would pay twice: so the batch is polled anew."""
    world = quick()
    faults = Faults().before("provider.upload", crash)
    assert dies(lambda: faults.pipeline(world).submit(RECORDS[:count]))
    first = world.pipeline().open_rows()[0]
    world.objects.put(world.config.layout.result_key(first.batch_id), b"{")
    report = world.pipeline().ingest()
    assert report.created == len(world.provider.paid) == (count - 1) // 3
    assert report.refusals == ()
    for _ in range(8):
        world.clock.sleep(world.config.policy.ambiguous_after_s)
        world.pipeline().ingest()
    assert world.violations(settled=True) == []
    assert len(world.observe().catalog) == count
    assert first.batch_id not in {create.metadata["batch_id"] for create in world.provider.paid}


def test_what_a_newer_version_wrote_stops_a_create_and_says_so() -> None:
    world = intents()
    first = world.pipeline().open_rows()[0]
    world.objects.put(world.config.layout.result_key(first.batch_id), b'{"schema": 99}')
    with pytest.raises(NewerSchema):
        world.pipeline().ingest()
    assert world.provider.creates == []


def test_a_row_damaged_while_it_is_searched_for_stops_no_other() -> None:
    world = SmallWorld(lambda nth, _: attrs.evolve(GOOD, running=(), unlisted_calls=int(nth == 1)))
    for record in RECORDS[:2]:
        dead = Faults().after("provider.create", crash).pipeline(world)
        assert dies(lambda dead=dead, record=record: dead.submit([record]))
    first, second = world.pipeline().open_rows()
    assert (first.status, second.status) == (Status.CREATING, Status.CREATING)
    whole = world.table.read_raw(first.batch_id)
    assert whole is not None
    faults = Faults().before("provider.list", lambda: world.table.write_raw({**whole, "attempt": "odd"}))
    report = faults.pipeline(world).ingest()
    assert (report.created, report.marked) == (1, 1)
    world.table.write_raw(whole)
    world.pipeline().run()
    assert world.violations(settled=True) == []
    assert len(world.provider.paid) == 2


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attribute", "value"), [("request_count", "many"), ("status", "NO SUCH"), ("attempt", 1.5)])
def test_a_damaged_row_costs_itself_alone(attribute: str, value: object) -> None:
    world = quick()
    pipe = world.pipeline()
    pipe.submit(RECORDS)
    first = min(row.batch_id for row in pipe.open_rows())
    whole = world.table.read_raw(first)
    assert whole is not None
    world.table.write_raw({**whole, attribute: value})
    pipe.ingest()
    assert pipe.open_rows() == ()
    world.table.write_raw(whole)
    assert [row.batch_id for row in pipe.open_rows()] == [first]
    world.pipeline().run()
    assert world.violations(settled=True) == []
