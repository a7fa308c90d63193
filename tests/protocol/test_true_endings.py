"""What `run` says at its end is so: nothing is open, what others did is counted, and what can't be ended is named."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from embedpipe.backends.memory.behaviour import Behaviour, CreateFault
from embedpipe.errors import CollectionMismatch, CorruptData, Unavailable, WriteConflict
from embedpipe.limits import Limits
from embedpipe.model import ProviderIssue
from embedpipe.wire import Head
from tests.harness import Faults, crash, dies, lose_answer
from tests.protocol.scenes import QUICK, QUICK_ONE, SLOW, behaviours, records, settle, texts
from tests.worlds import CONFIG, SmallWorld

ONE_EACH = attrs.evolve(CONFIG, limits=Limits(requests_per_batch=1))
HEAD = "notes/submissions/notes/head.json"


@pytest.mark.parametrize("nth", range(1, 16))
def test_a_row_that_moves_between_two_questions_is_not_overlooked(nth):
    """Another process begins to create the batch, and dies, while ours goes through the index status by status."""
    world = SmallWorld(behaviours(Behaviour(create=CreateFault.THROTTLED)))
    world.pipeline().submit(records("a", "1"))

    def other():
        world.clock.sleep(6)
        dies(lambda: Faults().before("provider.create", crash).pipeline(world).submit([]))

    Faults().before("table.by_status", other, nth=nth).pipeline(world).run(timeout_s=10_000)
    assert world.pipeline().open_rows() == ()
    assert world.violations(settled=True) == []


def test_a_run_counts_its_batches_though_the_ledger_has_dropped_them():
    """Others complete them while ours still creates, and submit, which drops from the ledger what has ended."""
    world = SmallWorld(QUICK, config=ONE_EACH)

    def other():
        pipe = world.pipeline()
        pipe.ingest()
        world.clock.sleep(10)
        pipe.ingest()
        pipe.submit(records("z", "1"))

    faults = Faults().before("provider.create", other)
    report = faults.pipeline(world).run(records("a b c", "1"))
    faults.assert_struck()
    assert report.records == 3
    assert report.embedded - 1 == 3, "and the one of the other run, which ours has waited for"


def test_one_that_fails_and_one_that_is_unproven_end_a_run():
    world = SmallWorld(behaviours(QUICK_ONE, SLOW), config=ONE_EACH)
    world.pipeline().submit(records("a b", "1"))
    assert dies(Faults().before("objects.get", crash, on="poll_results.json").pipeline(world).ingest)
    for name in world.observe().rows:
        world.objects.delete(world.config.layout.records_key(name))
    with pytest.raises(CorruptData, match=r"No batch can be completed.*unproven.*1 polls fail"):
        world.pipeline().run()


def test_a_row_of_another_model_costs_itself():
    world = SmallWorld(QUICK, config=ONE_EACH)
    pipe = world.pipeline()
    pipe.submit(records("a b c", "1"))
    odd = pipe.open_rows()[1]
    world.table.update(odd.batch_id, {"model": "othre"}, status=odd.status, revision=odd.revision)
    with pytest.raises(CollectionMismatch, match="othre"):
        pipe.run()  # when all others have ended, nothing says that the row is wrong and not the configuration
    assert len(world.observe().collection or {}) == 2
    assert world.violations() == []


@pytest.mark.parametrize("name", ["", "../x", "é", "x" * 200])
def test_a_ledger_entry_that_is_no_id_is_named_with_the_ledger(name):
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a", "1"))
    head = Head.load(world.objects.get(HEAD).data, HEAD)
    world.objects.put(HEAD, attrs.evolve(head, open=(attrs.evolve(head.open[0], batch_id=name),)).dump())
    with pytest.raises(CorruptData, match=HEAD):
        world.pipeline().ingest()


@pytest.mark.parametrize("file", ["retry.jsonl", "vectors.arrow"])
def test_a_mended_delta_keeps_the_judgement_that_its_batch_was_not_alone(file):
    """It was refused beside a batch that was open then, and that is refused later, so that it looks alone."""
    refused = (ProviderIssue(code="token_limit_exceeded"),)
    world = SmallWorld(config=attrs.evolve(CONFIG, limits=Limits()))

    def behaviour(_: int, metadata: Mapping[str, str]) -> Behaviour:
        row = world.observe().rows[metadata["batch_id"]]
        if row.request_count == 150 and row.attempt <= 3:
            return attrs.evolve(QUICK_ONE, outcome="failed", issues=refused)
        if row.request_count == 1 and row.attempt == 1:
            return Behaviour(running=("in_progress",), ends_after_s=500.0, outcome="failed", issues=refused)
        return QUICK_ONE

    world.provider.behaviour = behaviour
    names = " ".join(f"r{at}" for at in range(150))
    pipe = world.pipeline()
    pipe.submit(records(names, "1"))
    while not any(row.attempt == 3 for row in pipe.open_rows()):
        pipe.ingest()
        world.clock.sleep(20)
    pipe.submit(records("zz", "2"))
    while not any(row.attempt == 3 and row.status == "PENDING" for row in pipe.open_rows()):
        pipe.submit([])
        world.clock.sleep(5)
    assert dies(Faults().before("objects.get", crash, on="chunks.json").pipeline(world).ingest)
    (large,) = (row for row in pipe.open_rows() if row.attempt == 3)
    world.objects.put(f"{world.observe().registers[large.batch_id].delta_key}{file}", b"rot")
    world.clock.sleep(600)
    settle(world, texts(names, "1") | texts("zz", "2"), executions=100)


def test_a_run_whose_time_is_up_when_all_has_ended_has_ended():
    world = SmallWorld(QUICK)
    assert world.pipeline().run(records("a b", "1"), timeout_s=0).embedded == 2


def test_an_input_file_that_the_provider_forgot_is_sent_again():
    world = SmallWorld(behaviours(Behaviour(create=CreateFault.THROTTLED)))
    world.pipeline().submit(records("a", "1"))
    world.provider.files.clear()
    assert world.pipeline().run().embedded == 1


def conflict():
    raise WriteConflict("Another write of this object was under way.")


@pytest.mark.parametrize(
    ("effect", "fault", "on"),
    [
        ("objects.put", conflict, "embedpipe.json"),
        ("objects.get", lose_answer, "marked.json"),
        ("objects.get", lose_answer, "head.json"),
        ("objects.get", lose_answer, "latest.json"),
        ("table.by_status", lose_answer, ""),
    ],
)
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_passing_fault_ends_no_run(effect, fault, on, nth):
    world = SmallWorld(QUICK)
    report = Faults().before(effect, fault, on=on, nth=nth).pipeline(world).run(records("a b", "1"))
    assert (report.records, report.embedded) == (2, 2)
    assert world.violations(settled=True) == []


def test_a_ledger_moved_without_an_answer_is_counted():
    world = SmallWorld(QUICK)
    faults = Faults().after("objects.put", lose_answer, on="head.json")
    report = faults.pipeline(world).submit(records("a b", "1"))
    faults.assert_struck()
    assert (report.batches, report.records, report.created) == (1, 2, 1)


def test_a_fault_that_stays_is_raised():
    world = SmallWorld(QUICK)
    faults = Faults()
    for nth in range(1, CONFIG.retry.attempts + 1):
        faults.before("objects.get", lose_answer, on="head.json", nth=nth)
    with pytest.raises(Unavailable):
        faults.pipeline(world).submit(records("a b", "1"))
