"""One poll on memory backends: a register that is whole is left alone, and what can't be judged is a wait that says why."""

from __future__ import annotations

import json

import attrs
import pytest

from embedpipe.backends.batch_files import ItemError
from embedpipe.backends.memory.behaviour import FOR_EVER, GOOD, Behaviour
from embedpipe.errors import CorruptData, NotFound, Unauthorized
from embedpipe.events import ItemFailed
from embedpipe.layout import SEED
from embedpipe.lifecycle import Action
from embedpipe.limits import Limits
from embedpipe.model import Kind, Record
from embedpipe.steps.chunk import process, split
from embedpipe.steps.list_pending import list_pending
from embedpipe.steps.mark_complete import mark_complete
from embedpipe.steps.merge import final_merge
from embedpipe.steps.normalize import normalize
from embedpipe.steps.poll import poll
from embedpipe.steps.submit import submit
from embedpipe.wire import Result
from tests.harness import Faults, crash, dies, lose_answer
from tests.protocol.scenes import keys
from tests.worlds import CONFIG, SmallWorld

RECORDS = [Record(id=name, text=f"text {name}") for name in "abc"]
LATER = ItemError(status_code=500, code="server_error", message="later")
QUICK = attrs.evolve(GOOD, running=())


def submitted(behaviour: Behaviour = QUICK) -> tuple[SmallWorld, str]:
    """A world with one batch, and the batch."""
    world = SmallWorld(lambda nth, _: behaviour if nth == 1 else QUICK)
    world.pipeline().submit(RECORDS)
    (row,) = world.pipeline().open_rows()
    return world, row.batch_id


def polled(world: SmallWorld, name: str, execution_id: str = "e") -> Result:
    poll(world.pipeline().context, batch_id=name, execution_id=execution_id)
    key = SEED.result_key(name)
    return Result.load(world.objects.get(key).data, key)


def test_a_whole_result_is_not_made_again() -> None:
    world, name = submitted(attrs.evolve(QUICK, fates={"a": LATER}))
    before = polled(world, name, "first")
    stored = {info.key for info in world.objects.list("")}
    assert polled(world, name, "second") == before
    assert {info.key for info in world.objects.list("")} == stored


@pytest.mark.parametrize("key", ["../x/", "a\x00b/", "s3://other/x/", "x" * 2_000, "\ud800/"])
@pytest.mark.parametrize("mended", [True, False])
def test_a_delta_key_that_is_none_costs_nobody_else(key: str, mended: bool) -> None:
    """Whatever step meets it: the poll that mends it, or, where polls fail, the merge and the mark."""
    world = SmallWorld(lambda _, __: QUICK, config=attrs.evolve(CONFIG, limits=Limits(requests_per_batch=1)))
    world.pipeline().submit(RECORDS)
    (name, *_) = [row.batch_id for row in world.pipeline().open_rows()]
    before = polled(world, name)
    said = attrs.evolve(before, delta_key=key, delta_sha256=None)
    world.objects.put(SEED.result_key(name), said.dump())
    ctx = world.pipeline().context
    if mended:
        assert polled(world, name).delta_key not in (key, before.delta_key)
    submit(ctx, [], execution_id="s")
    listed = list_pending(ctx, execution_id="e")
    for batch in listed.pending_batches or ():
        if batch.batch_id != name:
            polled(world, batch.batch_id)
    done = normalize(ctx, execution_id="e")
    chunked = split(ctx, execution_id="e", poll_results_s3_key=done.poll_results_s3_key)
    for index in range(chunked.total_chunks):
        process(ctx, execution_id="e", index=index)
    final_merge(ctx, execution_id="e", poll_results_s3_key=done.poll_results_s3_key)
    marked = mark_complete(ctx, execution_id="e", poll_results_s3_key=done.poll_results_s3_key)
    assert marked.batches_marked == (len(RECORDS) if mended else len(RECORDS) - 1)
    world.pipeline().run()
    assert world.violations(settled=True) == []


def test_the_delta_of_another_collection_is_neither_merged_nor_taken_for_a_result() -> None:
    """Its batch is polled again; where that fails, the merge leaves the delta out, and mark the batch open."""
    world, name = submitted()
    other = SmallWorld(kind=Kind("notes", database="letters", collection="letters"), seed="other")
    other.objects = world.objects
    other.pipeline().run([Record(id="x", text="of another"), Record(id="y", text="of another, too")])
    (theirs,) = [key.removesuffix("delta.json") for key in keys(other, "letters/delta/") if key.endswith("delta.json")]
    said = {"action": "process_results", "batch_status": "completed", "embedding_count": 2, "delta_key": theirs}
    world.objects.put(SEED.result_key(name), json.dumps({"batch_id": name, **said}).encode())
    failing = Faults().before("provider.retrieve", lose_answer).before("provider.retrieve", lose_answer, nth=2)
    failing = failing.before("provider.retrieve", lose_answer, nth=3)
    assert failing.pipeline(world).ingest().marked == 0
    assert world.observe().catalog == {}
    world.pipeline().run()
    assert sorted(world.observe().catalog) == [record.id for record in RECORDS]
    assert world.violations(settled=True) == []


@pytest.mark.parametrize(
    "said",
    [
        {"action": "unreadable_result", "reason": "another poller's"},
        {"action": "handle_failure", "batch_status": "failed", "embedding_count": 0},
    ],
    ids=lambda said: said["action"],
)
def test_what_another_poller_says_of_a_batch_of_ours_is_not_the_end(said: dict[str, object]) -> None:
    """Neither is how a result of ours looks, and its records have to be accounted for."""
    world, name = submitted()
    world.objects.put(SEED.result_key(name), json.dumps({"batch_id": name, **said}).encode())
    assert polled(world, name).action is Action.PROCESS_RESULTS
    assert world.pipeline().run().embedded == len(RECORDS)
    assert world.violations(settled=True) == []


def test_a_damaged_delta_is_made_again_with_the_same_retry_set_or_not_at_all() -> None:
    world, name = submitted(attrs.evolve(QUICK, fates={"a": LATER}))
    before = polled(world, name)
    vectors = f"{before.delta_key}vectors.arrow"
    world.objects.put(vectors, b"damaged")
    again = polled(world, name)
    assert again.delta_key != before.delta_key
    assert again.retry_sha256 == before.retry_sha256
    world.objects.put(f"{again.delta_key}vectors.arrow", b"damaged")
    (job,) = world.provider._jobs.values()
    job.behaviour = attrs.evolve(QUICK, fates={"b": LATER})
    with pytest.raises(CorruptData, match="another retry set"):
        polled(world, name)
    key = SEED.result_key(name)
    assert Result.load(world.objects.get(key).data, key) == again


@pytest.mark.parametrize(
    "behaviour",
    [attrs.evolve(QUICK, null_output_retrieves=FOR_EVER), attrs.evolve(QUICK, late_retrieves=FOR_EVER)],
    ids=["no file", "half a file"],
)
def test_a_provider_whose_files_stay_behind_its_counts_is_waited_for_its_time(behaviour: Behaviour) -> None:
    world, name = submitted(behaviour)
    polled(world, name)
    world.clock.sleep(world.config.policy.settle_max_s - 1)
    assert (polled(world, name).action, polled(world, name).reason) == (Action.WAIT, "settling")
    world.clock.sleep(1)
    result = polled(world, name)
    assert result.action in (Action.PROCESS_PARTIAL, Action.HANDLE_FAILURE)
    assert result.embedding_count + (result.retry_count or 0) == len(RECORDS)


def test_a_file_that_is_named_and_not_there_is_waited_for() -> None:
    world, name = submitted(attrs.evolve(QUICK, content_missing=1))
    assert polled(world, name).reason == "settling"
    assert polled(world, name).embedding_count == 3


def test_records_that_fail_their_hash_are_not_polled_with() -> None:
    world, name = submitted()
    other, _ = submitted()
    other.pipeline().submit([Record(id=letter, text="another") for letter in "abc"])
    strange = next(row for row in other.pipeline().open_rows() if row.seq == 2)
    world.objects.put(SEED.records_key(name), other.objects.get(SEED.records_key(strange.batch_id)).data)
    with pytest.raises(CorruptData, match="fails its hash"):
        polled(world, name)
    assert [info.key for info in world.objects.list("poll_results/")] == []


def test_a_refused_key_is_a_wait() -> None:
    world, name = submitted(attrs.evolve(QUICK, unauthorized_retrieves=1))
    refused = polled(world, name)
    assert (refused.action, refused.reason) == (Action.WAIT, "unauthorized")
    assert polled(world, name).embedding_count == 3


def test_the_input_file_alone_shows_that_the_project_is_ours() -> None:
    """The provider lost the batch, and the list of its batches with it."""
    world, name = submitted()
    world.provider._jobs.clear()
    world.clock.sleep(world.config.policy.not_found_grace_s)
    assert polled(world, name).reason == "not_found"
    world.clock.sleep(world.config.policy.lost_after_s)
    assert polled(world, name).batch_status == "lost"


def unanswered() -> tuple[SmallWorld, str]:
    """A batch whose creator died before it heard the answer, long ago."""
    world = SmallWorld(lambda *_: QUICK)
    assert dies(lambda: Faults().after("provider.create", crash).pipeline(world).submit(RECORDS))
    world.clock.sleep(world.config.policy.ambiguous_after_s)
    return world, next(iter(world.observe().rows))


def test_a_create_is_searched_for_before_it_is_lost() -> None:
    world, name = unanswered()
    world.provider.closed_to = Unauthorized("401")
    assert polled(world, name).reason == "unauthorized"
    world.provider.closed_to = None
    assert polled(world, name).embedding_count == 3
    assert world.ambiguous == set()


def test_a_batch_that_another_finds_meanwhile_is_polled_all_the_same() -> None:
    world, name = unanswered()
    faults = Faults().before("table.update", lambda: world.pipeline().submit([]))
    poll(faults.pipeline(world).context, batch_id=name, execution_id="e")
    faults.assert_struck()
    assert polled(world, name).embedding_count == 3


def test_a_row_that_somebody_deletes_meanwhile_costs_no_more_than_its_poll() -> None:
    world, name = unanswered()
    faults = Faults().before("table.update", world.table._items.clear)
    poll(faults.pipeline(world).context, batch_id=name, execution_id="e")
    with pytest.raises(NotFound, match="has no row"):
        poll(world.pipeline().context, batch_id="another", execution_id="e")


def test_the_failure_of_one_poll_is_its_own() -> None:
    """Also where its records are gone: the others of the execution are merged and end."""
    world = SmallWorld(lambda *_: QUICK)
    for letter in "xyz":
        world.pipeline().submit([Record(id=letter, text=letter)])
    first = world.pipeline().open_rows()[0].batch_id
    whole = world.objects.get(SEED.records_key(first)).data
    world.objects.delete(SEED.records_key(first))
    report = world.pipeline().ingest()
    assert (report.failed, report.marked, report.waiting) == (1, 2, 1)
    assert [event.step for event in world.events if isinstance(event, ItemFailed)] == ["poll"]
    world.objects.put(SEED.records_key(first), whole)
    world.pipeline().run()
    assert world.violations(settled=True) == []
