"""Step 0 on memory backends: whose rows it creates, what a refusal does to a row, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from embedpipe.backends.memory.behaviour import GOOD, Behaviour, CreateFault
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import PreconditionFailed, Unauthorized
from embedpipe.events import BatchCreated
from embedpipe.lifecycle import Status
from embedpipe.model import Kind, Record
from embedpipe.steps.create import BUDGET_S
from tests.harness import Faults, crash, dies
from tests.worlds import SmallWorld

RECORDS = [Record(id=f"r{number}", text=f"text {number}") for number in range(7)]


def quick(*first: Behaviour, **options: Any) -> SmallWorld:
    return SmallWorld(lambda nth, _: attrs.evolve(first[nth - 1] if nth <= len(first) else GOOD, running=()), **options)


def statuses(world: SmallWorld) -> list[str]:
    return sorted(row.status for row in world.observe().rows.values())


def test_rows_of_another_collection_are_left_alone() -> None:
    here, there = (quick(kind=Kind("notes", database=name, collection=name), seed=name) for name in ("here", "there"))
    there.objects, there.table = here.objects, here.table
    assert dies(lambda: Faults().before("provider.upload", crash).pipeline(there).submit(RECORDS))
    assert here.pipeline().ingest().created == 0
    assert (here.provider.files, here.provider.creates, statuses(there)) == ({}, [], ["INTENT"] * 3)


def test_what_a_call_has_no_time_for_is_created_by_a_later_one() -> None:
    """A function that is ended in the middle of a create leaves an ambiguity behind."""
    world = quick()

    def slow() -> None:
        world.clock.sleep(BUDGET_S * 2 / 3)

    faults = Faults().before("provider.create", slow).before("provider.create", slow, nth=2)
    report = faults.pipeline(world).submit(RECORDS)
    assert (report.created, report.waiting) == (2, 1)
    assert statuses(world) == ["INTENT", "PENDING", "PENDING"]
    assert world.pipeline().run().embedded == len(RECORDS)
    assert world.violations(settled=True) == []


class Blind:
    """A table whose index does not show new rows yet."""

    def __init__(self, inner: MemoryBatchTable) -> None:
        self._inner = inner

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        return iter(()) if status is Status.INTENT else self._inner.by_status(batch_type, status, after=after)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)


def test_what_the_ledger_names_is_created_though_the_index_is_late() -> None:
    world = quick()
    assert world.pipeline(table=Blind(world.table)).submit(RECORDS).created == 3
    assert statuses(world) == ["PENDING"] * 3


def test_an_input_file_that_the_provider_forgot_is_uploaded_again() -> None:
    world = quick()
    faults = Faults().before("provider.create", world.provider.files.clear)
    faults.pipeline(world).submit(RECORDS[:2])
    (row,) = world.pipeline().open_rows()
    assert (row.status, row.reason, row.input_file_id) == (Status.INTENT, "input_file_not_found", None)
    assert (row.not_before, world.provider.creates) == (None, [])
    assert world.pipeline().run().embedded == 2
    assert world.violations(settled=True) == []


def test_a_refused_key_stops_at_once_and_gives_the_row_back() -> None:
    """Trying the other batches with it would only lock the account."""
    world = quick(attrs.evolve(GOOD, create=CreateFault.UNAUTHORIZED))
    with pytest.raises(Unauthorized):
        world.pipeline().submit(RECORDS)
    assert len(world.provider.creates) == 1
    assert statuses(world) == ["INTENT"] * 3
    assert [row.reason for row in world.pipeline().open_rows() if row.reason] == ["unauthorized"]
    world.pipeline().run()
    assert world.violations(settled=True) == []


def test_a_batch_that_a_search_found_is_reported_as_found() -> None:
    world = quick()
    assert dies(lambda: Faults().after("provider.create", crash).pipeline(world).submit(RECORDS[:2]))
    assert world.pipeline().ingest().created == 1
    world.pipeline().submit(RECORDS)
    assert [event.found for event in world.events if isinstance(event, BatchCreated)] == [True, False, False]


def test_who_is_overtaken_after_its_create_counts_none() -> None:
    """Another invocation found the batch in the list first."""
    world = quick()
    faults = Faults().after("provider.create", lambda: world.pipeline().ingest())
    report = faults.pipeline(world).submit(RECORDS[:2])
    assert (report.created, len(world.provider.paid)) == (0, 1)
    assert [event.found for event in world.events if isinstance(event, BatchCreated)] == [True]


def test_who_loses_the_race_for_a_row_does_not_create() -> None:
    world = quick()
    faults = Faults().before("table.update", lambda: world.pipeline().ingest(), nth=2)
    report = faults.pipeline(world).submit(RECORDS[:2])
    faults.assert_struck()
    assert (report.created, len(world.provider.paid)) == (0, 1)
    with pytest.raises(PreconditionFailed):  # what the loser met
        world.table.update(next(iter(world.observe().rows)), {}, status=Status.INTENT, revision=1)


def test_a_batch_says_whose_it_is() -> None:
    world = quick()
    pipe = world.pipeline()
    pipe.submit(RECORDS[:2])
    (create,) = world.provider.paid
    (row,) = pipe.open_rows()
    root_id = world.objects.get("embedpipe.json").data.decode()
    assert create.metadata["batch_id"] == row.batch_id
    assert f'"root_id":"{create.metadata["root_id"]}"' in root_id
