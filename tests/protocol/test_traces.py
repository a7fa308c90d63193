"""The traces in which an earlier protocol lost something, each with its fault placed by hand.

Each test ends the same way: faults stop, a bounded number of executions runs, and every guarantee holds.
"""

from __future__ import annotations

import attrs
import pytest

from embedpipe.errors import InvalidInput, ProviderMismatch
from embedpipe.events import Published
from embedpipe.lifecycle import Action, Status
from embedpipe.limits import Limits
from embedpipe.model import Claim, Kind, ProviderIssue
from embedpipe.steps.merge import final_merge
from tests.harness import ANY, Crash, Faults, SnapshotVectors, crash, dies, lose_answer, refuse_own_write
from tests.protocol.scenes import (
    EXPIRED_ALL,
    LOST_CREATE,
    QUICK,
    QUICK_ONE,
    SERVER_ERROR,
    SLOW,
    behaviours,
    claims,
    fails_with,
    keys,
    records,
    settle,
    settle_snapshots,
    texts,
)
from tests.worlds import CONFIG, SmallWorld

HEAD = "/head.json"
REQUESTS = "requests/"
POINTER = "/latest.json"
REGISTER = "/result.json"
"""Parts of keys by which the faults find their call."""


def test_t01_two_submitters_of_one_head_never_share_a_file():
    """S0 writes its files and moves the ledger; S1, which read the same head, writes other records; S0 has not created yet."""
    world = SmallWorld(QUICK)
    first, second = Faults(), Faults()
    first.after("objects.put", crash, on=HEAD)

    def submit_first():
        with pytest.raises(Crash):
            first.pipeline(world).submit(records("a b c", "zero"))

    second.before("objects.upload", submit_first, on=REQUESTS)
    second.pipeline(world).submit(records("x y z", "one"))
    second.assert_struck()
    settle(world, texts("a b c", "zero") | texts("x y z", "one"))
    assert sorted(create.custom_ids for create in world.provider.paid) == [("a", "b", "c"), ("x", "y", "z")]


def test_t02_a_dead_submitters_files_stop_nobody():
    """S0 writes its files and dies before the head. S1 comes with other records under the same number."""
    world = SmallWorld(QUICK)
    faults = Faults().before("objects.put", crash, on=HEAD)
    with pytest.raises(Crash):
        faults.pipeline(world).submit(records("a b", "zero"), execution_id="s0")
    world.pipeline().submit(records("x y", "one"))
    settle(world, texts("x y", "one"))
    world.pipeline().submit(records("a b", "zero"), execution_id="s0")
    settle(world, texts("a b", "zero") | texts("x y", "one"))
    assert len(world.provider.paid) == 2


def test_t04_a_slow_older_batch_hides_no_newer_text():
    """Seq 1 says "1" and is slow, seq 2 says "2" and is merged; then "1" again: the open seq 1 is no reason to skip it."""
    world = SmallWorld(behaviours(SLOW))
    pipe = world.pipeline()
    pipe.submit(records("r", "1"))
    pipe.submit(records("r", "2"))
    pipe.ingest()
    assert claims(world) == {"r": Claim(seq=2, attempt=1)}
    assert pipe.submit(records("r", "1")).seq == 3
    settle(world, texts("r", "1"))
    assert claims(world) == {"r": Claim(seq=3, attempt=1)}


def test_t05_a_record_on_its_way_in_a_retry_is_not_new():
    """R's batch ends with an item error and a retry row; R comes again while nothing of it is in the catalog."""
    world = SmallWorld(behaviours(attrs.evolve(QUICK_ONE, fates={"r": SERVER_ERROR})))
    pipe = world.pipeline()
    pipe.submit(records("r", "1"))
    pipe.ingest()
    assert sorted(row.status for row in world.observe().rows.values()) == [Status.COMPLETED, Status.INTENT]
    for other in ("a", "b"):  # the ledger moves on, and may drop what is closed
        assert pipe.submit(records(f"r {other}", "1")).skipped == 1
    settle(world, texts("r a b", "1"))
    assert claims(world)["r"] == Claim(seq=1, attempt=2)
    assert len(world.provider.paid) == 4


def test_t06_a_batch_that_ends_while_submit_reads_is_seen_somewhere():
    """R's batch merges and completes between any two reads of a submit of R."""
    nth = 0
    while True:
        nth += 1
        world = SmallWorld(QUICK)
        world.pipeline().submit(records("r s", "1"))
        faults = Faults().before(ANY, lambda world=world: settle(world, texts("r s", "1")), nth=nth)
        report = faults.pipeline(world).submit(records("r s", "1"))
        if not faults.planned[0].struck:
            break
        assert (report.seq, report.skipped) in [(None, 2), (None, 0)], f"before {faults.calls[nth - 1]}"
        settle(world, texts("r s", "1"))
        assert len(world.provider.paid) == 1
    assert nth > 5


def test_t07_a_submitter_delivered_again_claims_nothing_newer():
    """S0 claims "1" and dies; S1 claims "2"; S0 is delivered again."""
    world = SmallWorld(QUICK)
    faults = Faults().after("objects.put", crash, on=HEAD)
    with pytest.raises(Crash):
        faults.pipeline(world).submit(records("r", "1"), execution_id="s0")
    assert world.pipeline().submit(records("r", "2"), execution_id="s1").seq == 2
    assert world.pipeline().submit(records("r", "1"), execution_id="s0").seq == 1
    settle(world, texts("r", "2"))
    assert claims(world) == {"r": Claim(seq=2, attempt=1)}
    assert len(world.provider.paid) == 2


def test_t11_two_collections_in_one_table_stay_apart():
    """One batch type, two databases: each execution lists, merges and proves only its own rows."""
    here, there = (
        SmallWorld(QUICK, kind=Kind("notes", database=name, collection=name), seed=name) for name in ("here", "there")
    )
    there.objects, there.table, there.vectors = here.objects, here.table, here.vectors
    here.pipeline().submit(records("r s", "1"))
    there.pipeline().submit(records("r s", "2"))
    report = here.pipeline().ingest()
    assert (report.listed, report.marked, report.waiting) == (1, 1, 0)
    assert there.observe().latest is None
    assert [row.status for row in there.observe().rows.values()] == [Status.PENDING]
    with pytest.raises(InvalidInput, match="another collection"):
        there.pipeline().ingest(execution_id=report.execution_id)  # it has a listing, and that is not ours
    settle(there, texts("r s", "2"))
    settle(here, texts("r s", "1"), executions=0)


def test_t14_a_retry_that_arrives_last_unlearns_nothing():
    """Seq 1 expires without a vector, seq 2 is merged, then the retry of seq 1 comes."""
    world = SmallWorld(behaviours(EXPIRED_ALL, SLOW))
    pipe = world.pipeline()
    pipe.submit(records("r", "1"))
    pipe.ingest()
    pipe.submit(records("r", "2"))  # also creates the retry, which is slow
    pipe.ingest()
    assert claims(world) == {"r": Claim(seq=2, attempt=1)}
    assert [row.claim for row in pipe.open_rows()] == [Claim(seq=1, attempt=2)]
    settle(world, texts("r", "2"))
    assert claims(world) == {"r": Claim(seq=2, attempt=1)}


# --- creating ------------------------------------------------------------------------------------------------------


def test_t03_a_lost_create_ends_only_when_its_retry_is_there():
    """The provider never got the create; the register says so; the execution dies anywhere in mark."""
    nth = 0
    while True:
        nth += 1
        world = SmallWorld(behaviours(LOST_CREATE))
        pipe = world.pipeline()
        pipe.submit(records("a b", "1"))
        world.clock.sleep(world.config.policy.ambiguous_after_s)
        faults = Faults().after("objects.put", lambda: None, on=REGISTER).before("table.", crash, nth=nth)
        if not dies(faults.pipeline(world).ingest):
            break
        assert world.violations() == [], faults.calls[-1]
        settle(world, texts("a b", "1"))
        assert claims(world)["a"] == Claim(seq=1, attempt=2)
        assert len(world.provider.paid) == 1
    assert nth > 5
    settle(world, texts("a b", "1"))


@pytest.mark.parametrize("behaviour", [QUICK_ONE, attrs.evolve(QUICK_ONE, unlisted_calls=1)], ids=["listed", "late"])
def test_t08_a_create_whose_winner_died_is_searched_not_repeated(behaviour):
    """Create done, crash; the same execution is delivered again."""
    world = SmallWorld(behaviours(behaviour))
    faults = Faults().after("provider.create", crash)
    with pytest.raises(Crash):
        faults.pipeline(world).submit(records("a b", "1"), execution_id="s0")
    for _ in range(3):
        world.pipeline().submit(records("a b", "1"), execution_id="s0")
        world.pipeline().ingest()
    settle(world, texts("a b", "1"))
    assert len(world.provider.creates) == 1


def test_t08_a_lost_answer_is_searched_not_repeated():
    """The answer is lost and not even the search is answered; the step is repeated."""
    world = SmallWorld(QUICK)
    faults = Faults().after("provider.create", lose_answer).before("provider.list", lose_answer)
    faults.pipeline(world).submit(records("a b", "1"))
    faults.assert_struck()
    settle(world, texts("a b", "1"))
    assert len(world.provider.creates) == 1
    assert len(world.ambiguous) == 1


# --- polling and retrying ------------------------------------------------------------------------------------------


def test_t09_halves_of_a_failed_batch_have_claims_of_their_own():
    """Validation fails without naming a line; the halves have rows while the parent is still open."""
    world = SmallWorld(behaviours(attrs.evolve(QUICK_ONE, outcome="failed", issues=(ProviderIssue(code="odd"),))))
    world.pipeline().submit(records("a b c", "1"))
    faults = Faults().before("table.update", crash, nth=1)
    assert dies(faults.pipeline(world).ingest)
    seen = world.observe()
    assert sorted((row.status, row.attempt) for row in seen.rows.values()) == [
        ("INTENT", 2),
        ("INTENT", 2),
        ("PENDING", 1),
    ]
    assert world.violations() == []
    assert {record.tries for group in seen.records.values() for record in group} == {1}
    settle(world, texts("a b c", "1"))
    assert set(claims(world).values()) == {Claim(seq=1, attempt=2)}
    assert len(world.provider.paid) == 3


def test_t12_a_late_wait_does_not_overwrite_a_result():
    """E1 sees a running batch and pauses; E2 sees it ended and merges it; E1 writes what it saw."""
    world = SmallWorld(behaviours(attrs.evolve(QUICK_ONE, running=("in_progress",))))
    world.pipeline().submit(records("a b", "1"))
    faults = Faults().before("objects.put", lambda: world.pipeline().ingest(execution_id="e2"), on=REGISTER)
    faults.pipeline(world).ingest(execution_id="e1")
    faults.assert_struck()
    (register,) = world.observe().registers.values()
    assert (register.action, register.execution_id) == (Action.PROCESS_RESULTS, "e2")
    settle(world, texts("a b", "1"))


@pytest.mark.parametrize(
    "effect", ["objects.put", "objects.upload", "table.put_new", "table.update", "collection.upsert"]
)
def test_t13_a_parent_ends_after_its_retry_is_there(effect):
    """Half of a batch fails; the execution dies after any of its writes, those of mark among them."""
    nth = 0
    while True:
        nth += 1
        world = SmallWorld(behaviours(attrs.evolve(QUICK_ONE, fates={"a": SERVER_ERROR})))
        world.pipeline().submit(records("a b", "1"))
        faults = Faults().after(effect, crash, nth=nth)
        if not dies(faults.pipeline(world).ingest):
            break
        assert world.violations() == [], f"after {faults.calls[-1]}"
        settle(world, texts("a b", "1"))
        assert claims(world) == {"a": Claim(seq=1, attempt=2), "b": Claim(seq=1, attempt=1)}
        assert len(world.provider.paid) == 2
    assert nth > 1


def test_t15_a_foreign_project_changes_nothing():
    """The key of another project: every retrieve is 404, for longer than any batch may be lost."""
    world = SmallWorld(QUICK)
    pipe = world.pipeline()
    pipe.submit(records("a b c d", "1"))
    with pytest.raises(Crash):  # a third batch, whose create was not answered before the key changed
        Faults().after("provider.create", crash).pipeline(world).submit(records("e", "1"))
    before = world.observe().rows
    world.provider.foreign = True
    policy = world.config.policy
    for _ in range(5):
        world.clock.sleep(max(policy.lost_after_s, policy.not_found_grace_s))
        with pytest.raises(ProviderMismatch):
            pipe.ingest()
    assert world.observe().rows == before
    assert {register.action for register in world.observe().registers.values()} == {Action.WAIT}
    world.provider.foreign = False
    settle(world, texts("a b c d e", "1"))
    assert len(world.provider.paid) == 3


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_t16_an_output_that_is_not_there_yet_is_waited_for(status):
    """Ended, the output id still null, the counts ahead; later the file is there with half of its lines."""
    late = attrs.evolve(QUICK_ONE, outcome=status, null_output_retrieves=2, late_retrieves=4)
    world = SmallWorld(behaviours(late))
    pipe = world.pipeline()
    pipe.submit(records("a b c", "1"))
    for _ in range(4):
        assert pipe.ingest().marked == 0
        assert [register.action for register in world.observe().registers.values()] == [Action.WAIT]
    settle(world, texts("a b c", "1"))
    assert len(world.provider.paid) == 1


def test_t19_one_bad_line_costs_itself_alone():
    """Any batch with "d" in it fails validation as a whole. Try costs nothing, so even one attempt is enough for the others."""
    world = SmallWorld(config=attrs.evolve(CONFIG, policy=attrs.evolve(CONFIG.policy, attempts_max=1), limits=Limits()))
    world.provider.behaviour = fails_with(world, "d", line=None)
    world.pipeline().submit(records("a b c d e f g h", "1"))
    seen = settle(world, texts("a b c e f g h", "1"))
    rejected = [name for delta in seen.deltas.values() for name in delta.rejected]
    assert rejected == ["d"]
    assert {record.tries for group in seen.records.values() for record in group} == {1}
    assert len(world.provider.paid) == 7  # halved three times


def test_t19_a_named_line_is_dropped_at_once():
    """The provider names the line: two batches are enough."""
    world = SmallWorld(config=attrs.evolve(CONFIG, policy=attrs.evolve(CONFIG.policy, attempts_max=1), limits=Limits()))
    world.provider.behaviour = fails_with(world, "d", line=4)
    world.pipeline().submit(records("a b c d e f g h", "1"))
    seen = settle(world, texts("a b c e f g h", "1"))
    assert [entry.reason for delta in seen.deltas.values() for entry in delta.rejected.values()] == ["bad_line"]
    assert len(world.provider.paid) == 2


@pytest.mark.parametrize("name", ["vectors.arrow", "rejected.jsonl", "retry.jsonl", "delta.json"])
def test_t20_a_damaged_delta_is_replaced(name):
    """A file of the delta is damaged, or gone, after the poll that wrote it and before it is merged."""
    for gone in (False, True):
        world = SmallWorld(behaviours(attrs.evolve(QUICK_ONE, fates={"c": SERVER_ERROR})))
        world.pipeline().submit(records("a b c", "1"))
        faults = Faults().before("objects.put", crash, on="/poll_results.json")
        assert dies(faults.pipeline(world).ingest)
        (register,) = world.observe().registers.values()
        if gone:
            world.objects.delete(register.delta_key + name)
        else:
            world.objects.put(register.delta_key + name, b"damaged")
        seen = settle(world, texts("a b c", "1"))
        revised = seen.registers[register.batch_id]
        assert revised.delta_key != register.delta_key
        assert revised.retry_sha256 == register.retry_sha256
        assert len(world.provider.paid) == 2


# --- publishing ----------------------------------------------------------------------------------------------------


def test_t10_what_a_dead_writer_wrote_is_not_trusted():
    """In place: "2" is in the collection, crash before the catalog; "1" comes again and equals the catalog."""
    world = SmallWorld(QUICK)
    pipe = world.pipeline()
    pipe.submit(records("r", "1"))
    settle(world, texts("r", "1"))
    pipe.submit(records("r", "2"))
    faults = Faults().after("collection.upsert", crash)
    assert dies(faults.pipeline(world).ingest)
    assert world.observe().collection == texts("r", "2")
    assert world.observe().journal is not None
    pipe.submit(records("r", "1"))
    settle(world, texts("r", "1"))
    assert claims(world) == {"r": Claim(seq=3, attempt=1)}


MERGE = (
    ("objects.put", "/merging.json"),
    ("collection.upsert", ""),
    ("collection.get", ""),
    ("edition.seal", ""),
    ("objects.upload", "/catalog.arrow"),
    ("objects.put", "/snapshot.json"),
    ("objects.put", POINTER),
    ("objects.delete", "/merging.json"),
)
"""The effects of a merge in place, in their order."""


@pytest.mark.parametrize("place", range(2 * len(MERGE)))
def test_t10_wherever_two_writers_die(place):
    """The writer of "2" dies before or after each effect of its merge, the next one in the middle of its own."""
    world = SmallWorld(QUICK)
    world.pipeline().run(records("r s", "1"))
    world.pipeline().submit(records("r", "2"))
    effect, on = MERGE[place // 2]
    first = Faults()
    (first.after if place % 2 else first.before)(effect, crash, on=on)
    assert dies(first.pipeline(world).ingest)
    world.pipeline().submit(records("r", "1"))
    second = Faults().after("collection.upsert", crash)
    dies(second.pipeline(world).ingest)
    settle(world, texts("r s", "1"))


def test_t10_a_merge_that_has_nothing_of_its_own_keeps_the_journal_of_the_dead():
    """E0 listed before "2" was submitted, so it merges what E1's journal names and nothing else; then it dies, too."""
    world = SmallWorld(behaviours(QUICK_ONE, SLOW))
    world.pipeline().run(records("r", "1"))
    world.pipeline().submit(records("s", "1"))

    def die_with_another_text():
        world.pipeline().submit(records("r", "2"))
        assert dies(Faults().after("collection.upsert", crash).pipeline(world).ingest)

    faults = Faults().before("objects.put", die_with_another_text, on="/poll_results.json")
    faults.after("collection.upsert", crash)
    assert dies(faults.pipeline(world).ingest)
    faults.assert_struck()
    world.pipeline().submit(records("r", "1"))
    settle(world, texts("r s", "1"))


def test_t17_a_loser_never_touches_a_winners_files():
    """E1 is about to move the pointer when E2 publishes: both built version 2 on version 1."""
    world = SmallWorld(QUICK)
    world.vectors = SnapshotVectors()
    world.pipeline().run(records("a", "1"))
    world.pipeline().submit(records("b", "1"))
    stored: dict[str, bytes] = {}

    def overtake():
        world.pipeline().submit(records("c", "1"))
        world.pipeline().ingest()
        stored.update({key: world.objects.get(key).data for key in keys(world, "/snapshot/2-")})

    faults = Faults().before("objects.upload", overtake, on="/snapshot/2-")
    faults.pipeline(world).ingest()
    faults.assert_struck()
    settle_snapshots(world, texts("a b c", "1"))
    assert len(stored) == 2
    assert {key: world.objects.get(key).data for key in stored} == stored


def test_t17_in_place_a_dead_writers_version_is_never_taken_up():
    """The files of version 2 are there, and the pointer did not move: the next version 2 has files of its own."""
    world = SmallWorld(QUICK)
    world.pipeline().run(records("a", "1"))
    world.pipeline().submit(records("b", "1"))
    faults = Faults().before("objects.put", crash, on=POINTER)
    assert dies(faults.pipeline(world).ingest)
    left = {key: world.objects.get(key).data for key in keys(world, "/snapshot/2-")}
    settle(world, texts("a b", "1"))
    assert {key: world.objects.get(key).data for key in left} == left
    assert len(keys(world, "/snapshot/2-")) == 2 * len(left) == 4


@pytest.mark.parametrize("overtaken", [False, True], ids=["alone", "overtaken"])
@pytest.mark.parametrize("answer", [refuse_own_write, lose_answer], ids=["412", "lost"])
def test_t18_the_winner_recognises_itself(answer, overtaken):
    """The pointer's write succeeds and its answer is lost; the client's repetition gets 412, maybe after others went on."""
    world = SmallWorld(QUICK)
    world.vectors = SnapshotVectors()
    world.pipeline().submit(records("a", "1"))

    def overtake():
        if overtaken:
            world.pipeline().submit(records("b", "1"))
            world.pipeline().ingest()
        answer()

    faults = Faults().after("objects.put", overtake, on=POINTER)
    report = faults.pipeline(world).ingest()
    faults.assert_struck()
    assert report.marked + overtaken == 1
    seen = settle_snapshots(world, texts("a b" if overtaken else "a", "1"))
    assert seen.latest.n == 1 + overtaken  # nobody published the same again
    published = [event.version for event in world.events if isinstance(event, Published)]
    assert sorted(published) == sorted(seen.snapshots)[answer is lose_answer :]


def test_two_deliveries_of_one_execution_agree_on_its_chunks():
    """D1 saw one batch ended, D2 a second one too. Whoever merges journals what it merges, whoever packed it; then both die."""
    world = SmallWorld(behaviours(QUICK_ONE, QUICK_ONE, attrs.evolve(QUICK_ONE, running=("in_progress",))))
    world.pipeline().run(records("r", "1"))
    world.pipeline().submit(records("x", "1"))
    world.pipeline().submit(records("r", "2"))
    first, second, third = Faults(), Faults(), Faults()
    second.before("objects.get", crash, on=POINTER)
    third.after("collection.upsert", crash)

    def merge_what_is_packed():
        context = third.pipeline(world).context
        with pytest.raises(Crash):
            final_merge(context, execution_id="e", poll_results_s3_key=context.layout.poll_results_key("e"))
        crash()

    first.before(
        "objects.put", lambda: dies(lambda: second.pipeline(world).ingest(execution_id="e")), on="/chunks.json"
    )
    first.before("objects.upload", merge_what_is_packed, on="intermediate/")
    assert dies(lambda: first.pipeline(world).ingest(execution_id="e"))
    for faults in (first, second, third):
        faults.assert_struck()
    assert world.observe().collection == texts("r", "2") | texts("x", "1")
    world.pipeline().submit(records("r", "1"))
    settle(world, texts("r x", "1"))
