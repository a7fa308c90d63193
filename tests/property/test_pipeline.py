"""Whatever the provider does to batches, the guarantees hold: the whole flow, on memory backends, in virtual time."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedpipe.backends.memory.behaviour import GOOD, Behaviour
from embedpipe.errors import Incomplete
from embedpipe.lifecycle import Status
from embedpipe.limits import Policy
from embedpipe.model import Record
from tests.worlds import CONFIG, SmallWorld, greatest_claims, latest_texts
from verify.invariants import check, outcome
from verify.strategies import behaviours, record_ids, submissions

IDS = [f"r{number}" for number in range(8)] + ["../x", "a/b", "\U0001f600", "\uffff"]
SLOW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def chooser(drawn: list[Behaviour]):  # type: ignore[no-untyped-def]
    """The first creates behave as drawn, all later ones well: faults stop."""
    return lambda nth, _: drawn[nth - 1] if nth <= len(drawn) else GOOD


@SLOW
@given(submissions(), st.lists(behaviours(IDS), max_size=6), st.integers(1, 4))
def test_every_guarantee_holds_at_the_end(texts, drawn, requests_per_batch):
    config = attrs.evolve(CONFIG, limits=attrs.evolve(CONFIG.limits, requests_per_batch=requests_per_batch))
    world = SmallWorld(chooser(drawn), config=config)
    for records in texts:
        world.pipeline().run(records, timeout_s=3_000)
        assert world.violations(settled=True) == []
    seen = world.observe()
    assert greatest_claims(seen) == latest_texts(texts)


@SLOW
@given(submissions(), st.lists(behaviours(IDS), max_size=6), st.data())
def test_every_guarantee_holds_at_every_moment(texts, drawn, data):
    """Submissions and executions of several pipelines in any order, looked at after each."""
    world = SmallWorld(chooser(drawn))
    waiting = list(texts)
    pipes = [world.pipeline(), world.pipeline()]
    for _ in range(data.draw(st.integers(2, 10))):
        pipe = data.draw(st.sampled_from(pipes))
        if waiting and data.draw(st.booleans()):
            pipe.submit(waiting.pop(0))
        else:
            pipe.ingest()
            world.clock.sleep(data.draw(st.sampled_from([0, 10, 100])))
        assert world.violations() == []
    for records in waiting:
        pipes[0].submit(records)
    world.pipeline().run(timeout_s=3_000)
    assert world.violations(settled=True) == []
    assert greatest_claims(world.observe()) == latest_texts(texts)


@SLOW
@given(submissions(most=2), st.lists(behaviours(IDS), max_size=3))
def test_repeating_an_execution_changes_nothing(texts, drawn):
    world = SmallWorld(chooser(drawn))
    pipe = world.pipeline()
    for records in texts:
        pipe.submit(records)
    for number in range(30):
        pipe.ingest(execution_id=f"e{number}")
        world.clock.sleep(50)
        if not pipe.open_rows():
            break
    before = outcome(world.observe())
    for again in range(number + 1):
        pipe.ingest(execution_id=f"e{again}")
    assert outcome(world.observe()) == before
    assert check(world.observe(), settled=True) == []


@pytest.mark.parametrize("count", [0, 1, 50, 51, 1200])
def test_batch_ids_are_conserved_for_any_number_of_batches(count):
    config = attrs.evolve(CONFIG, limits=attrs.evolve(CONFIG.limits, requests_per_batch=1), policy=Policy())
    world = SmallWorld(lambda *_: attrs.evolve(GOOD, running=()), config=config)
    records = [Record(id=f"r{number}", text=f"text {number}") for number in range(count)]
    report = world.pipeline().run(records)
    assert (report.batches, report.embedded) == (count, count)
    seen = world.observe()
    assert check(seen, settled=True) == []
    assert sum(len(manifest.batches) for manifest in seen.manifests.values()) == count


def test_a_batch_that_never_ends_holds_up_no_other():
    world = SmallWorld(lambda nth, _: attrs.evolve(GOOD, outcome=None) if nth == 1 else GOOD)
    records = [Record(id=f"r{number}", text="x") for number in range(9)]
    with pytest.raises(Incomplete):
        world.pipeline().run(records, timeout_s=500)
    seen = world.observe()
    assert check(seen) == []
    assert sorted(row.status for row in seen.rows.values()) == [Status.COMPLETED, Status.COMPLETED, Status.PENDING]
    assert len(seen.catalog) == 6


@given(record_ids())
def test_record_ids_are_ids(name):
    assert Record(id=name, text="x").id == name
