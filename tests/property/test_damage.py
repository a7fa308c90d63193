"""Damage to stored objects costs only what it hits, and what can be derived again is derived again."""

from __future__ import annotations

from contextlib import suppress

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.errors import CorruptData, Incomplete, ServiceError
from embedpipe.model import Record
from tests.worlds import SmallWorld, greatest_claims
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
        pipe._invoke(name, {"execution_id": "first"})
    for row in pipe.open_rows():
        pipe._invoke("poll", {"execution_id": "first", "batch_id": row.batch_id})
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
