"""What the verbs report is what happened, also where an answer was lost or a table is shared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Kind, Record
from tests.harness import Faults, lose_answer, refuse_own_write
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
    assert not pipe._unfinished()
    world.objects.put(key, b"{")
    assert pipe._unfinished()


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
