"""Deleting the provider's files: only where asked for, only of what is proven to be published, and never in the way."""

from __future__ import annotations

from typing import Any, Final

import attrs
import pytest

from embedpipe.backends.memory.behaviour import ChooseBehaviour
from embedpipe.errors import NotFound, Unauthorized, Unavailable
from embedpipe.events import FilesNotDeleted
from embedpipe.lifecycle import Status
from embedpipe.steps.mark_complete import mark_complete
from embedpipe.steps.provider_files import BUDGET_S
from embedpipe.wire import Journal
from tests.harness import Faults, crash, dies
from tests.protocol.scenes import EXPIRED_ALL, QUICK, behaviours, records, settle, texts
from tests.worlds import CONFIG, SmallWorld

NAMES: Final = "a b c d e f"  # two batches


def tidy(behaviour: ChooseBehaviour = QUICK) -> SmallWorld:
    """A world whose files are deleted."""
    policy = attrs.evolve(CONFIG.policy, delete_provider_files=True)
    return SmallWorld(behaviour, config=attrs.evolve(CONFIG, policy=policy))


def files(world: SmallWorld) -> set[str]:
    """What the provider has of its batches."""
    named = set(world.provider.files)
    for create in world.provider.paid:
        batch = world.provider.retrieve(create.provider_batch_id or "")
        named |= {name for name in (batch.input_file_id, batch.output_file_id, batch.error_file_id) if name}
    return {name for name in named if world.provider.bytes_of(name) is not None}


def kept(world: SmallWorld) -> list[FilesNotDeleted]:
    return [event for event in world.events if isinstance(event, FilesNotDeleted)]


def test_by_default_nothing_is_deleted() -> None:
    world = SmallWorld(QUICK)
    world.pipeline().run(records(NAMES, "1"))
    assert len(files(world)) == 4


def test_what_is_published_is_deleted() -> None:
    world = tidy()
    world.pipeline().run(records(NAMES, "1"))
    assert files(world) == set()
    assert kept(world) == []
    settle(world, texts(NAMES, "1"))
    world.pipeline().run(records("a", "2"))
    assert files(world) == set()
    settle(world, texts(NAMES, "1") | texts("a", "2"))


def test_never_before_the_row_has_ended_and_its_records_are_published() -> None:
    world = tidy()
    seen: list[int] = []

    def look() -> None:
        found = world.observe()
        assert {row.status for row in found.rows.values()} == {Status.COMPLETED}
        assert found.catalog.keys() == texts(NAMES, "1").keys()
        seen.append(len(world.provider.files))

    faults = Faults()
    for nth in range(1, 5):
        faults.before("provider.delete_file", look, nth=nth)
    faults.pipeline(world).run(records(NAMES, "1"))
    faults.assert_struck()
    assert len(seen) == 4


def test_what_gave_no_vector_keeps_its_files() -> None:
    """The batch has expired, and its records are embedded by its retry."""
    world = tidy(behaviours(EXPIRED_ALL))
    world.pipeline().run(records("a b c", "1"))
    first, second = (world.provider.retrieve(create.provider_batch_id or "") for create in world.provider.paid)
    assert files(world) == {first.input_file_id, first.error_file_id}
    assert second.status == "completed"
    settle(world, texts("a b c", "1"))


@pytest.mark.parametrize("call", ["provider.delete_file", "provider.retrieve"])
@pytest.mark.parametrize(
    "error", [Unavailable("The provider is away."), Unauthorized("401."), NotFound("404.")], ids=lambda e: e.code
)
def test_a_failure_is_reported_and_stops_nothing(call: str, error: Exception) -> None:
    world = tidy()
    world.pipeline().submit(records(NAMES, "1"))

    def fail() -> None:
        raise error

    # The first two looks at batches are those of the polls.
    faults = Faults().before(call, fail, nth=3 if call == "provider.retrieve" else 1)
    report = faults.pipeline(world).ingest()
    faults.assert_struck()
    assert report.marked == 2
    forgotten = call == "provider.retrieve" and isinstance(error, NotFound)  # a batch that is not there has no files
    assert [str(event.error) for event in kept(world)] == ([] if forgotten else [str(error)])
    assert len(files(world)) == 2  # of the other batch, all are gone
    settle(world, texts(NAMES, "1"))


def test_a_death_between_the_end_and_the_files_is_made_good_by_the_repeated_delivery() -> None:
    world = tidy()
    world.pipeline().submit(records(NAMES, "1"))
    dying = Faults().before("provider.delete_file", crash, nth=2)
    assert dies(lambda: dying.pipeline(world).ingest(execution_id="e"))
    assert {row.status for row in world.observe().rows.values()} == {Status.COMPLETED}
    assert len(files(world)) == 3
    key = world.config.layout.poll_results_key("e")
    for _ in range(2):
        counts = mark_complete(world.pipeline().context, poll_results_s3_key=key, execution_id="e")
        assert counts.batches_marked == 2
        assert files(world) == set()
    assert kept(world) == []


def test_another_execution_leaves_them_alone() -> None:
    world = tidy()
    world.pipeline().submit(records(NAMES, "1"))
    assert dies(lambda: Faults().before("provider.delete_file", crash).pipeline(world).ingest(execution_id="e"))
    world.pipeline().run()
    assert len(files(world)) == 4


def test_what_a_journal_names_is_not_deleted() -> None:
    """A dead writer's batch, and one that is being merged: their vectors may be needed again."""
    world = tidy()
    world.pipeline().submit(records(NAMES, "1"))
    names = sorted(world.observe().rows)

    def write() -> None:
        delta: Any = {"batch_id": names[0], "delta_key": "words/delta/x/"}
        found = {"execution_id": "x", "intermediates": [], "deltas": [delta], "suspects": names[1:], "started_at": "t"}
        world.objects.put("notes/snapshot/merging.json", Journal.load(found, "journal").dump())

    faults = Faults().after("objects.put", write, on="marked.json")
    report = faults.pipeline(world).ingest()
    faults.assert_struck()
    assert report.marked == 2
    assert len(files(world)) == 4
    assert kept(world) == []


def test_a_journal_that_cannot_be_read_keeps_all_files() -> None:
    """It was written by a newer version, and may name any of them."""
    world = tidy()
    world.pipeline().submit(records(NAMES, "1"))
    newer = b'{"schema": 99}'
    faults = Faults().after(
        "objects.put", lambda: world.objects.put("notes/snapshot/merging.json", newer), on="marked.json"
    )
    report = faults.pipeline(world).ingest()
    assert report.marked == 2
    assert len(files(world)) == 4
    assert ["schema 99" in event.error for event in kept(world)] == [True, True]


def test_it_ends_when_its_time_is_up() -> None:
    world = tidy()
    world.pipeline().submit(records(NAMES, "1"))
    Faults().before("provider.delete_file", lambda: world.clock.sleep(BUDGET_S)).pipeline(world).ingest()
    assert [event.error for event in kept(world)] == ["no time was left after 300 s"]
    assert len(files(world)) == 2
