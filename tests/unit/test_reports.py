"""What the verbs report is what happened, also where an answer was lost or a table is shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest

from embedpipe.backends.batch_files import ItemError
from embedpipe.backends.memory.behaviour import GOOD, Behaviour, CreateFault
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import ServiceError
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Kind, Record
from embedpipe.wire import Head
from tests.harness import Crash, Faults, crash, lose_answer, refuse_own_write
from tests.worlds import SmallWorld


def quick(**options: object) -> SmallWorld:
    return SmallWorld(lambda *_: attrs.evolve(GOOD, running=()), **options)  # type: ignore[arg-type]


def some(names: str) -> list[Record]:
    return [Record(id=name, text=f"text {name}") for name in names]


# --- an answer that was lost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [refuse_own_write, lose_answer], ids=["412", "lost"])
def test_who_ended_a_batch_counts_it_though_the_answer_was_lost(answer) -> None:  # type: ignore[no-untyped-def]
    """Its own first try succeeded: a client's repetition meets 412, or the engine repeats the whole step."""
    world = quick()
    world.pipeline().submit(some("abc"))
    faults = Faults().after("table.update", answer)
    report = faults.pipeline(world).ingest()
    faults.assert_struck()
    assert (report.marked, report.vectors, report.listed) == (1, 3, 1)
    assert world.violations(settled=True) == []
    again = world.pipeline().ingest(execution_id=report.execution_id)  # delivered again, whole
    assert (again.marked, again.vectors) == (1, 3)


@pytest.mark.parametrize("answer", [refuse_own_write, lose_answer], ids=["412", "lost"])
def test_a_run_counts_what_it_embedded(answer) -> None:  # type: ignore[no-untyped-def]
    world = quick()
    faults = Faults().after("table.update", answer, nth=4)  # after those of the input file, the claim and the create
    report = faults.pipeline(world).run(some("abc"))
    faults.assert_struck()
    assert (report.records, report.embedded) == (3, 3)


def test_a_submission_counts_what_it_claimed_though_its_own_first_try_refused_it() -> None:
    world = quick()
    faults = Faults().after("objects.put", refuse_own_write, on="/head.json")
    report = faults.pipeline(world).submit(some("abc"))
    faults.assert_struck()
    assert (report.seq, report.batches, report.records, report.skipped, report.created) == (1, 1, 3, 0, 1)
    assert len(world.provider.paid) == 1


@pytest.mark.parametrize(
    ("before", "embedded", "elsewhere"),
    [("provider.retrieve", 4, 3), ("table.by_status", 2, 0), ("table.update", 2, 1)],
)
def test_a_run_counts_what_another_one_completed_for_it(before: str, embedded: int, elsewhere: int) -> None:
    """Another run takes over everything, retries too: the two records of ours, and the two we have begun to wait for."""
    fails = {"b": ItemError(status_code=500, code="server_error", message="later")}
    first = attrs.evolve(GOOD, running=(), fates=fails)
    world = SmallWorld(lambda nth, _: first if nth == 1 else attrs.evolve(first, fates={}))
    world.pipeline().submit(some("ab"))
    faults = Faults().before(before, lambda: world.pipeline().run())
    report = faults.pipeline(world).run(some("de"))
    faults.assert_struck()
    assert (report.records, report.embedded, report.rejected) == (2, embedded, 0)
    assert report.completed_elsewhere == elsewhere
    assert world.violations(settled=True) == []


def test_a_run_alone_completes_everything_itself() -> None:
    report = quick().pipeline().run(some("abcdefg"))
    assert (report.records, report.embedded, report.batches, report.completed_elsewhere) == (7, 7, 3, 0)


# --- one batch that can't be created -------------------------------------------------------------------------------


def test_a_batch_refused_for_good_lets_all_others_be_finished_first() -> None:
    """The others are refused, too, at first, for a reason that passes."""
    bad: set[str] = set()

    def behaviour(nth: int, metadata: Mapping[str, str]) -> Behaviour:
        if nth == 1:
            bad.add(metadata["batch_id"])
        if metadata["batch_id"] in bad:
            return attrs.evolve(GOOD, create=CreateFault.REFUSED, refusal="invalid_model")
        refused = attrs.evolve(GOOD, create=CreateFault.REFUSED, refusal="insufficient_quota")
        return refused if nth <= 6 else attrs.evolve(GOOD, running=())

    world = SmallWorld(behaviour)
    with pytest.raises(ServiceError, match="1 batches wait to be created, and can't be: invalid_model"):
        world.pipeline().run(some("abcdefg"))
    rows = world.observe().rows.values()
    assert sorted(row.status for row in rows) == [Status.COMPLETED, Status.COMPLETED, Status.INTENT]
    assert world.violations() == []


def test_a_ledger_entry_without_a_time_costs_the_time() -> None:
    world = quick()
    with pytest.raises(Crash):
        Faults().after("objects.put", crash, on="/head.json").pipeline(world).submit(some("abcd"))
    key = "notes/submissions/notes/head.json"
    head = Head.load(world.objects.get(key).data, key)
    first, second = head.open
    world.objects.put(key, attrs.evolve(head, open=(attrs.evolve(first, submitted_at="yesterday"), second)).dump())
    assert world.pipeline().run().embedded == 4
    assert world.violations(settled=True) == []


def test_what_another_execution_ended_is_not_counted_twice() -> None:
    world = quick()
    world.pipeline().submit(some("abc"))
    faults = Faults().before("table.update", lambda: world.pipeline().ingest(execution_id="other"))
    report = faults.pipeline(world).ingest()
    faults.assert_struck()
    assert (report.marked, report.vectors) == (0, 0)


# --- status --------------------------------------------------------------------------------------------------------


def test_kinds_of_one_batch_type_are_counted_apart() -> None:
    here, there = quick(kind=Kind("a-b")), quick(kind=Kind("a_b"), seed="there")
    there.objects, there.table, there.vectors = here.objects, here.table, here.vectors
    assert here.kind.batch_type == there.kind.batch_type
    here.pipeline().run(some("abcd"))
    there.pipeline().submit(some("abc"))
    assert {name: count for name, count in here.pipeline().status().counts.items() if count} == {"COMPLETED": 2}
    assert {name: count for name, count in there.pipeline().status().counts.items() if count} == {"PENDING": 1}
    assert [row.status for row in there.pipeline().status().open] == ["PENDING"]
    assert here.pipeline().status().counts.keys() == {str(status) for status in Status}


def test_the_rows_of_a_large_table_are_read_in_blocks() -> None:
    world = quick()
    for number in range(2_500):
        status = (Status.COMPLETED, Status.PENDING)[number % 2]
        world.table.put_new(
            BatchRow(batch_id=f"b{number}", batch_type=world.kind.batch_type, status=status, seq=number)
        )
    faults = Faults()
    report = faults.pipeline(world).status()
    assert (report.counts["COMPLETED"], report.counts["PENDING"], len(report.open)) == (1_250, 1_250, 1_250)
    assert [row.batch_id for row in report.open] == [f"b{number}" for number in range(1, 2_500, 2)]
    assert sum(call.startswith("table.get_many") for call in faults.calls) < 25


def test_no_batch_is_younger_than_now() -> None:
    """It was submitted by a clock that is fast."""
    world = quick()
    row = BatchRow(batch_id="b", batch_type=world.kind.batch_type, status=Status.PENDING)
    world.clock.sleep(100)
    submitted_at = world.clock.now()
    world.table.put_new(attrs.evolve(row, submitted_at=submitted_at))
    world.clock._elapsed_us = 0
    assert [batch.age_s for batch in world.pipeline().status().open] == [0.0]


# --- what is left to do --------------------------------------------------------------------------------------------


def test_a_journal_is_something_to_finish_even_if_nobody_can_read_it() -> None:
    world = quick()
    pipe = world.pipeline()
    key = pipe.context.layout.journal_key(world.kind.database)
    world.objects.put(f"{key}.old", b"{}")
    world.objects.put(f"{key}/other", b"{}")
    assert not pipe._unfinished(set())
    world.objects.put(key, b"{")
    assert pipe._unfinished(set())


def test_what_the_index_says_late_is_not_open() -> None:
    """The index may still have a row under a status that it has left."""
    world = quick()
    world.pipeline().run(some("abc"))
    (name,) = world.observe().rows
    stale = world.pipeline(table=Late(world.table, name)).status()
    assert (stale.open, stale.counts["COMPLETED"], stale.counts["PENDING"]) == ((), 1, 0)
    assert world.pipeline(table=Late(world.table, name)).open_rows() == ()


class Late:
    """A table whose index has one row under PENDING, too."""

    def __init__(self, inner: MemoryBatchTable, name: str) -> None:
        self._inner = inner
        self._name = name

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        yield from self._inner.by_status(batch_type, status, after=after)
        if status is Status.PENDING:
            yield self._name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)
