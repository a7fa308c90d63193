"""Objects that vanish or rot behind our back: what can't be made again is refused with its name, before it costs anything."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from embedpipe.errors import CollectionMismatch, CorruptData, RefusedRequest, Unauthorized, Unavailable, WriteConflict
from embedpipe.events import DeltaLeftOut, ItemFailed
from embedpipe.model import EmbeddingModel, Kind
from embedpipe.wire import Journal
from tests.harness import Faults, crash, dies
from tests.protocol.scenes import EXPIRED_ALL, QUICK, SLOW, behaviours, keys, records, texts
from tests.worlds import CONFIG, KIND, SmallWorld

HEAD = "notes/submissions/notes/head.json"
POINTER = "notes/snapshot/latest.json"
JOURNAL = "notes/snapshot/merging.json"


def refused(world: SmallWorld, call: Callable[[], object], key: str) -> None:
    """The call names the object and what to do, and changes nothing."""
    before = (len(world.provider.paid), keys(world, ""))
    with pytest.raises(CorruptData) as caught:
        call()
    assert key in caught.value.message
    assert "backup" in caught.value.hint
    assert (len(world.provider.paid), keys(world, "")) == before


def settle(world: SmallWorld, expected: dict[str, str]) -> None:
    """A run ends everything, every guarantee holds, and the texts are there."""
    world.pipeline().run(timeout_s=10_000)
    assert world.violations(settled=True) == []
    assert world.observe().collection == expected


def test_without_its_ledger_a_collection_takes_no_records():
    """A ledger begun anew would give claims below those of the catalog: older texts would win."""
    world = SmallWorld(QUICK)
    world.pipeline().run(records("a", "1"))
    whole = world.objects.get(HEAD).data
    world.objects.delete(HEAD)
    refused(world, lambda: world.pipeline().submit(records("a", "2")), HEAD)
    world.objects.put(HEAD, whole)
    world.pipeline().submit(records("a", "2"))
    settle(world, texts("a", "2"))


def test_the_first_submission_of_somebody_else_is_no_lost_ledger():
    """Between our two reads another submitter begins the ledger, and its batch is published."""
    world = SmallWorld(QUICK)
    faults = Faults().after("objects.get", lambda: world.pipeline().run(records("a", "1")), on=HEAD)
    faults.pipeline(world).submit(records("a b", "2"))
    faults.assert_struck()
    settle(world, texts("a b", "2"))


def test_without_its_pointer_a_database_publishes_nothing():
    """A version made on nothing would be a catalog without the older records."""
    world = SmallWorld(QUICK)
    world.pipeline().run(records("a", "1"))
    world.pipeline().submit(records("b", "1"))
    whole = world.objects.get(POINTER).data
    world.objects.delete(POINTER)
    refused(world, lambda: world.pipeline().submit(records("c", "1")), POINTER)
    with pytest.raises(CorruptData, match=POINTER):
        world.pipeline().ingest()
    assert POINTER not in keys(world, "")
    world.objects.put(POINTER, whole)
    settle(world, texts("a b", "1"))


def test_an_emptied_collection_is_not_built_upon():
    world = SmallWorld(QUICK)
    world.pipeline().run(records("a b", "1"))
    with world.vectors.editing("notes", "notes", version="any", dimensions=8) as edition:
        rows = edition.collection.rows
        lost = rows.pop("a")
    version = world.observe().latest
    world.pipeline().submit(records("c", "1"))
    with pytest.raises(CorruptData, match="holds 1 rows; its published catalog names 2"):
        world.pipeline().ingest()
    assert world.observe().latest == version
    rows["a"] = lost
    settle(world, texts("a b c", "1"))


def test_a_run_with_nothing_to_do_notices_an_emptied_collection():
    world = SmallWorld(QUICK)
    world.pipeline().run(records("a b", "1"))
    with world.vectors.editing("notes", "notes", version="any", dimensions=8) as edition:
        edition.collection.rows.pop("a")
    with pytest.raises(CorruptData, match="holds 1 rows; its published catalog names 2"):
        world.pipeline().run(records("a b", "1"))


# --- what a dead writer left ---------------------------------------------------------------------------------------


def dead_writer(world: SmallWorld) -> str:
    """ "2" is in the collection and not in the catalog; the prefix of its delta."""
    world.pipeline().run(records("r", "1"))
    world.pipeline().submit(records("r", "2"))
    assert dies(Faults().after("collection.upsert", crash).pipeline(world).ingest)
    assert world.observe().collection == texts("r", "2")
    return Journal.load(world.objects.get(JOURNAL).data, JOURNAL).deltas[0].delta_key


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"deltas": 1}'])
def test_a_damaged_journal_stops_nothing_and_trusts_nothing(garbage):
    world = SmallWorld(QUICK)
    dead_writer(world)
    world.objects.put(JOURNAL, garbage)
    world.pipeline().submit(records("r", "1"))
    settle(world, texts("r", "1"))
    assert JOURNAL not in keys(world, "")


@pytest.mark.parametrize("file", ["vectors.arrow", "delta.json"])
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("journal_too", [False, True])
def test_a_dead_writers_rows_are_distrusted_until_its_batch_ends(file, gone, journal_too):
    """Its delta can't be read, nor made again yet; others merge meanwhile, and one of them looks equal."""
    world = SmallWorld(QUICK)
    key = dead_writer(world) + file
    whole = world.objects.get(key).data
    if gone:
        world.objects.delete(key)
    else:
        world.objects.put(key, b"damaged")
    if journal_too:
        world.objects.put(JOURNAL, b"damaged")
    (dead,) = world.pipeline().open_rows()
    for later in (records("q", "9"), records("r", "1")):
        world.pipeline().submit(later)
        no_answer_for(world, dead.provider_batch_id)
        assert dead.batch_id in Journal.load(world.objects.get(JOURNAL).data, JOURNAL).suspects
    assert DeltaLeftOut in {type(event) for event in world.events}
    world.pipeline().run(timeout_s=10_000)
    world.objects.put(key, whole)  # the batch may have ended without it: its record is superseded
    settle(world, texts("q", "9") | texts("r", "1"))
    assert JOURNAL not in keys(world, "")


def no_answer_for(world: SmallWorld, provider_batch_id: str | None) -> None:
    """One execution in which the provider does not answer for one batch."""
    assert provider_batch_id is not None
    faults = Faults()
    for nth in range(1, CONFIG.retry.attempts + 1):
        faults.before("provider.retrieve", unavailable, on=provider_batch_id, nth=nth)
    faults.pipeline(world).ingest()
    faults.assert_struck()


def unavailable() -> None:
    raise Unavailable("No answer.")


def test_a_journal_that_names_a_lost_row_does_not_keep_a_run_from_ending():
    world = SmallWorld(QUICK)
    dead_writer(world)
    (dead,) = world.pipeline().open_rows()
    journal = Journal.load(world.objects.get(JOURNAL).data, JOURNAL)
    world.objects.put(JOURNAL, attrs.evolve(journal, raw=None, deltas=(), suspects=(dead.batch_id, "lost")).dump())
    world.pipeline().run(timeout_s=10_000)
    assert world.pipeline().open_rows() == ()


# --- what submit reads ---------------------------------------------------------------------------------------------


def test_a_second_collection_of_a_database_is_refused_before_it_costs_anything():
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a", "1"))
    world.kind = second = Kind("other", database="notes")
    for _ in ("before anything is published", "after"):
        before = (len(world.provider.paid), keys(world, ""))
        with pytest.raises(CollectionMismatch, match="use another database"):
            world.pipeline().submit(records("b", "1"))
        assert (len(world.provider.paid), keys(world, "")) == before
        world.kind = KIND
        world.pipeline().run()
        world.kind = second


def test_another_model_polls_nothing_of_the_first():
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a", "1"))
    first = world.config
    for model in (EmbeddingModel(name="other", dimensions=8), EmbeddingModel(name="scripted", dimensions=4)):
        world.config = attrs.evolve(first, model=model)
        with pytest.raises(CollectionMismatch, match="Use that model"):
            world.pipeline().ingest()
    assert keys(world, "poll_results/") == []
    world.config = first
    settle(world, texts("a", "1"))


@pytest.mark.parametrize("ended", [False, True])
def test_the_records_of_a_row_that_cant_be_read_are_still_claimed(ended):
    """A damaged row is as good as open; and so is a retry whose row is damaged while its parent has ended."""
    world = SmallWorld(behaviours(EXPIRED_ALL, SLOW) if ended else behaviours(SLOW))
    world.pipeline().submit(records("a b", "1"))
    if ended:
        world.pipeline().ingest()
    (row,) = world.pipeline().open_rows()
    assert row.attempt == (2 if ended else 1)
    whole = world.table.read_raw(row.batch_id)
    assert whole is not None
    world.table.write_raw({**whole, "request_count": "many"})
    report = world.pipeline().submit(records("a b c", "1"))
    assert (report.skipped, report.records) == (2, 3)
    world.table.write_raw(whole)
    settle(world, texts("a b c", "1"))


def test_without_the_records_of_an_open_batch_nothing_is_submitted():
    world = SmallWorld(behaviours(SLOW))
    world.pipeline().submit(records("a", "1"))
    (row,) = world.pipeline().open_rows()
    key = f"requests/{row.batch_id}/records.arrow"
    whole = world.objects.get(key).data
    world.objects.delete(key)
    refused(world, lambda: world.pipeline().submit(records("a", "1")), key)
    world.objects.put(key, whole)
    settle(world, texts("a", "1"))


def conflict() -> None:
    raise WriteConflict("Two writers raced.")


def test_a_ledger_write_that_meets_another_is_gathered_again():
    """HTTP 409: nothing was written, and there may be a new ledger to read."""
    world = SmallWorld(QUICK)
    faults = Faults().before("objects.put", conflict, on=HEAD)
    report = faults.pipeline(world).submit(records("a", "1"))
    faults.assert_struck()
    assert (report.seq, report.batches) == (1, 1)
    settle(world, texts("a", "1"))


def test_a_ledger_lost_before_anything_is_published_is_not_begun_anew():
    """Else the newer text would have the smaller claim, and what is on its way would be paid for again."""
    world = SmallWorld(behaviours(SLOW, SLOW))
    world.pipeline().submit(records("a", "1"))
    world.pipeline().submit(records("a", "2"))
    whole = world.objects.get(HEAD).data
    world.objects.delete(HEAD)
    refused(world, lambda: world.pipeline().submit(records("a b", "3")), HEAD)
    world.objects.put(HEAD, whole)
    world.pipeline().submit(records("a b", "3"))
    settle(world, texts("a b", "3"))


@pytest.mark.parametrize("damage", [None, b"", b"changed"])
def test_a_retry_is_made_of_what_was_submitted(damage):
    """The parent's input file is changed, or gone, after it was created: its lines are made again from its records."""
    world = SmallWorld(behaviours(EXPIRED_ALL))
    world.pipeline().submit(records("a b", "1"))
    (row,) = world.pipeline().open_rows()
    key = f"requests/{row.batch_id}/request.jsonl"
    whole = world.objects.get(key).data
    if damage is None:
        world.objects.delete(key)
    else:
        world.objects.put(key, damage and whole.replace(b"a 1", b"a 2"))
    world.pipeline().ingest()
    (retry,) = world.pipeline().open_rows()
    assert world.objects.get(f"requests/{retry.batch_id}/request.jsonl").data == whole
    settle(world, texts("a b", "1"))


@pytest.mark.parametrize("polled", [True, False])
@pytest.mark.parametrize("dead", [None, "table.put_new", "provider.list"])
def test_a_lost_table_is_put_again_without_paying_again(polled, dead):
    """The rows are gone while their batches run: the ledger names them, and their registers the provider's batches.

    Where nobody has polled them yet, the provider's list does; also to the next process, where one dies over it.
    """
    world = SmallWorld(behaviours(SLOW, SLOW))
    world.pipeline().submit(records("a b c d", "1"))
    if polled:
        world.pipeline().ingest()
    paid = len(world.provider.paid)
    world.table.__init__()  # type: ignore[misc]  # as if the file had been deleted
    assert world.pipeline().open_rows() == ()
    if dead is not None:
        assert dies(lambda: Faults().after(dead, crash).pipeline(world).ingest())
    settle(world, texts("a b c d", "1"))
    assert len(world.provider.paid) == paid == 2


@pytest.mark.parametrize("reason", ["file_too_large", "invalid_file_format"])
def test_a_file_that_the_provider_refuses_costs_its_batch_alone(reason):
    world = SmallWorld(QUICK)

    def refuse() -> None:
        raise RefusedRequest("No such file today.", reason=reason)

    report = Faults().before("provider.upload", refuse).pipeline(world).submit(records("a b c d", "1"))
    assert (report.batches, report.created, report.waiting) == (2, 1, 1)
    settle(world, texts("a b c d", "1"))


def test_a_run_says_when_a_row_that_should_be_open_cant_be_read():
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a b c d", "1"))
    first = world.pipeline().open_rows()[0]
    whole = world.table.read_raw(first.batch_id)
    assert whole is not None
    world.table.write_raw({**whole, "request_count": "many"})
    with pytest.raises(CorruptData, match=first.batch_id):
        world.pipeline().run()
    assert world.pipeline().status().unaccounted == (first.batch_id,)
    world.table.write_raw(whole)
    assert world.pipeline().status().unaccounted == ()
    settle(world, texts("a b c d", "1"))


def test_a_run_ends_where_no_batch_can_be_completed():
    """The records of a batch rot after its result is known: it says so, and does not poll for ever."""
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a", "1"))
    (row,) = world.pipeline().open_rows()
    key = f"requests/{row.batch_id}/records.arrow"
    whole = world.objects.get(key).data
    faults = Faults().after("objects.put", lambda: world.objects.put(key, b"rotten"), on="/result.json")
    faults.pipeline(world).ingest()
    with pytest.raises(CorruptData, match=key):
        world.pipeline().run(timeout_s=10_000)
    world.objects.put(key, whole)
    settle(world, texts("a", "1"))


def test_a_changed_record_file_is_no_claim():
    """One flipped byte in the records of an open batch: refused, and not taken for other records."""
    world = SmallWorld(behaviours(SLOW))
    world.pipeline().submit(records("a", "1"))
    (row,) = world.pipeline().open_rows()
    key = f"requests/{row.batch_id}/records.arrow"
    whole = world.objects.get(key).data
    world.objects.put(key, whole.replace(b"a 1", b"a 2"))
    refused(world, lambda: world.pipeline().submit(records("a", "1")), key)
    world.objects.put(key, whole)
    settle(world, texts("a", "1"))


def test_an_audit_notices_a_collection_that_is_gone():
    world = SmallWorld(QUICK)
    world.pipeline().run(records("a", "1"))
    world.vectors.__init__()  # type: ignore[misc]
    assert "collection" in {damaged.part for damaged in world.observe().damaged}
    assert world.violations() != []


@pytest.mark.parametrize("name", [".arrow", ".json"])
@pytest.mark.parametrize("garbage", [b"", b"changed"])
def test_a_changed_intermediate_is_left_out_and_packed_again(name, garbage):
    """Between chunk and merge the packed rows change: they are not published, and the next execution packs them anew."""
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a b", "1"))

    def change() -> None:
        (key,) = [key for key in keys(world, "intermediate/") if key.endswith(name)]
        whole = world.objects.get(key).data
        world.objects.put(key, garbage and (whole.replace(b"a 1", b"a 2") if name == ".arrow" else garbage))

    faults = Faults().before("objects.get", change, on="/chunks.json", nth=3)
    faults.pipeline(world).ingest()
    faults.assert_struck()
    assert world.observe().latest is None
    assert len([event for event in world.events if isinstance(event, DeltaLeftOut)]) == 1
    settle(world, texts("a b", "1"))


def test_a_store_that_refuses_a_poll_is_not_the_provider():
    """403 from the object store: the poll fails and says whose it is, and the register is no `unauthorized` wait."""
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a", "1"))

    def refuse() -> None:
        raise Unauthorized("The store says 403.")

    Faults().before("objects.upload", refuse, on="/delta/").pipeline(world).ingest()
    assert ["403" in event.error for event in world.events if isinstance(event, ItemFailed)] == [True]
    assert world.observe().registers == {}
    settle(world, texts("a", "1"))
