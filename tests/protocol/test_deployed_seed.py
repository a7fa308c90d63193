"""A table and objects as a deployment of the seed's design laid them down: read, ingested and completed without migration.

`tests/corpus/deployed` holds them byte by byte: items with their DynamoDB types, of which some are not ours, registers with
the seed's fields only, listings at both of its places, and a delta in a format that is not ours. The provider still has its
batches, under the names that the rows say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from embedpipe.backends.batch_files import EXPIRED
from embedpipe.backends.dynamodb_items import decode_item
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.backends.memory.provider import MemoryProvider, vector_of
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import CorruptData, InvalidInput
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import TERMINAL_ACTIONS, Action
from embedpipe.model import LINE, WORD, ProviderIssue
from embedpipe.steps.normalize import normalize
from embedpipe.steps.poll import poll
from embedpipe.wire import Result
from tests.aws.cloud import AwsWorld
from tests.contract.aws import in_process
from tests.harness import Faults, Watched
from tests.protocol.scenes import BETWEEN_S, QUICK_ONE, records
from tests.worlds import SmallWorld

DEPLOYED: Final = Path(__file__).parents[1] / "corpus" / "deployed"
NAMES: Final[dict[str, str]] = json.loads((DEPLOYED / "names.json").read_text())
ITEMS: Final[list[dict[str, Any]]] = [json.loads(line) for line in (DEPLOYED / "items.jsonl").read_text().splitlines()]
OBJECTS: Final = DEPLOYED / "objects"
BEGUN: Final = "5f0d7c1e-6b1c-4d53-9a39-6c6f6c0a5d10"
"""An execution whose listing is under `poll_manifests/`; the one below has it under `manifests/`."""
BEGUN_LATER: Final = "8a6e0804-2bd0-4672-b79d-d97027f9071a"
PREFIX: Final = "67b4f2c8a1d48190b1"
MODEL: Final = "scripted"

NOT_ENDED: Final = frozenset(NAMES) - {"complete"}
LIFE: Final = {
    "failed": Behaviour(running=(), outcome="failed", issues=(ProviderIssue(code="token_limit_exceeded"),)),
    "partial": Behaviour(running=(), outcome="expired", fates={"partial#2": EXPIRED}),
    "cancelled": Behaviour(running=(), outcome="cancelled", fates={"cancelled#2": EXPIRED}),
}
"""What the provider did with some of the batches; the others ended well."""


def ids(what: str) -> list[str]:
    """The `custom_id`s of a batch: the deployment kept neither requests nor records."""
    return [f"{what}#{number}" for number in range(3)]


def request(custom_id: str) -> bytes:
    """A line as the seed writes it: without `encoding_format`, so vectors come as numbers."""
    body = {"model": MODEL, "input": f"text of {custom_id}"}
    return (
        json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}).encode() + b"\n"
    )


def deployed_provider(world: SmallWorld, folder: Path) -> MemoryProvider:
    """A provider with the batches that the rows name."""
    made = iter(NAMES)
    provider = MemoryProvider(world.clock, behaviour=lambda *_: LIFE.get(next(made, ""), QUICK_ONE), prefix=PREFIX)
    for what in NAMES:
        path = folder / "input.jsonl"
        path.write_bytes(b"".join(map(request, ids(what))))
        provider.create(provider.upload(path), {})
    return provider


def objects() -> dict[str, bytes]:
    """Key and bytes."""
    return {path.relative_to(OBJECTS).as_posix(): path.read_bytes() for path in OBJECTS.rglob("*") if path.is_file()}


@attrs.frozen
class Deployed:
    """A world over what was deployed, and how its table is looked at around the port."""

    world: SmallWorld
    raw: Any

    def items(self) -> dict[str, dict[str, Any]]:
        """Every item, by partition key."""
        return {item["PK"]: item for item in self.raw()}


def in_memory(folder: Path) -> Deployed:
    world = SmallWorld(kind=WORD)
    world.provider = deployed_provider(world, folder)
    for item in ITEMS:
        world.table.write_raw(decode_item(item))
    for key, data in objects().items():
        world.objects.write_raw(key, data)
    return Deployed(world, lambda: list(world.table._items.values()))


def on_aws(folder: Path) -> Deployed:
    world = AwsWorld(kind=WORD)
    world.provider = deployed_provider(world, folder)
    client = world.wire.session.client("dynamodb", region_name="eu-central-1")
    for item in ITEMS:
        client.put_item(TableName="batches", Item=item)
    for key, data in objects().items():
        world.objects.put(key, data)
    return Deployed(world, lambda: [decode_item(item) for item in client.scan(TableName="batches")["Items"]])


@pytest.fixture(params=["memory", "aws"])
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployed]:
    if request.param == "memory":
        yield in_memory(tmp_path)
    else:
        with in_process():
            yield on_aws(tmp_path)


@pytest.fixture
def at_hand(tmp_path: Path) -> Deployed:
    return in_memory(tmp_path)


def register(world: SmallWorld, what: str) -> Result:
    key = SEED.result_key(NAMES[what])
    return Result.load(world.objects.get(key).data, key)


def statuses(deployed: Deployed) -> dict[str, str]:
    items = deployed.items()
    return {what: items[f"BATCH#{name}"]["status"] for what, name in NAMES.items()}


ENDS: Final = {
    **dict.fromkeys(("no_result", "waiting", "merged", "partial", "cancelled", "complete"), "COMPLETED"),
    "failed": "FAILED",
}
EMBEDDED: Final = {
    *(name for what in ("no_result", "waiting", "merged") for name in ids(what)),
    *("partial#0", "partial#1", "cancelled#0", "cancelled#1"),
}


def check_ended(deployed: Deployed) -> None:
    """Every batch has ended, its vectors are there, and nothing was submitted again."""
    world = deployed.world
    assert statuses(deployed) == ENDS
    seen = world.observe()
    assert seen.collection is not None
    assert seen.collection.keys() == EMBEDDED == seen.catalog.keys()
    assert len(world.provider.creates) == len(NAMES)
    assert world.violations(settled=True) == []


# --- the whole ------------------------------------------------------------------------------------------------------


def test_what_is_open_is_ingested_and_completed(deployed: Deployed) -> None:
    before = deployed.items()
    report = deployed.world.pipeline().run()
    check_ended(deployed)
    assert (report.embedded, report.rejected, report.retry_batches, report.ambiguous_creates) == (13, 2, 0, 0)
    after = deployed.items()
    ours = {f"BATCH#{NAMES[what]}" for what in NOT_ENDED}
    assert after.keys() == before.keys()
    assert {key: after[key] for key in after.keys() - ours} == {key: before[key] for key in before.keys() - ours}
    for key in ours:  # what the seed wrote stays, but for what a status is written in
        changed = {name for name in before[key] if after[key].get(name) != before[key][name]}
        assert changed <= {"status", "GSI1PK"}, changed


def test_vectors_are_those_that_the_provider_gave(at_hand: Deployed) -> None:
    world = at_hand.world
    world.pipeline().run()
    with world.vectors.reading("words", "receipt_words", version="any") as collection:
        rows = collection.get(sorted(EMBEDDED))
    for name, vector in zip(rows.ids, rows.vectors, strict=True):
        assert vector == pytest.approx(vector_of(MODEL, f"text of {name}", 8))


def test_a_second_run_changes_nothing(at_hand: Deployed) -> None:
    at_hand.world.pipeline().run()
    before = at_hand.items()
    at_hand.world.pipeline().run()
    at_hand.world.pipeline().ingest()
    assert at_hand.items() == before


def test_new_records_join_and_win(at_hand: Deployed) -> None:
    """A claim of ours is greater than any of a deployment that made none."""
    world = at_hand.world
    world.provider.behaviour = lambda *_: QUICK_ONE
    report = world.pipeline().run(records("merged#0 new", "ours"))
    assert (report.records, report.skipped) == (2, 0)
    seen = world.observe()
    assert seen.catalog["merged#0"].claim.seq == seen.catalog["new"].claim.seq == 1
    assert seen.collection is not None
    assert seen.collection["merged#0"] == "merged#0 ours"
    assert seen.collection.keys() == EMBEDDED | {"new"}


# --- listings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("execution_id", "listed"), [(BEGUN, sorted(NOT_ENDED)), (BEGUN_LATER, ["merged", "no_result", "waiting"])]
)
def test_an_execution_that_was_begun_keeps_its_listing(at_hand: Deployed, execution_id: str, listed: list[str]) -> None:
    report = at_hand.world.pipeline().ingest(execution_id=execution_id)
    assert report.listed == len(listed)
    key = SEED.poll_results_key(execution_id)
    found = Result.load_many(at_hand.world.objects.get(key).data, key)
    assert {result.batch_id for result in found} == {NAMES[what] for what in listed}
    assert all(result.openai_batch_id for result in found)
    assert {what for what, status in statuses(at_hand).items() if status != "PENDING"} == {*listed, "complete"}
    at_hand.world.pipeline().run()
    check_ended(at_hand)


def test_their_listing_is_not_moved(at_hand: Deployed) -> None:
    world = at_hand.world
    world.pipeline().ingest(execution_id=BEGUN)
    assert SEED.manifest_key(BEGUN) not in world.objects.contents()
    key = SEED.deployed_manifest_key(BEGUN)
    assert world.objects.contents()[key] == objects()[key]


def test_their_results_are_taken_where_registers_are_gone(at_hand: Deployed) -> None:
    """Full results handed over in place of references, of batches without a register, or with one that can't be read."""
    world = at_hand.world
    full = json.loads(objects()[SEED.poll_results_key(BEGUN_LATER)])
    world.objects.write_raw(SEED.result_key(NAMES["merged"]), b"{torn")
    done = normalize(world.pipeline().context, execution_id=BEGUN_LATER, poll_results=[None, *full])
    assert json.loads(world.objects.get(done.poll_results_s3_key).data) == full


def test_references_of_theirs_lead_to_their_registers(at_hand: Deployed) -> None:
    world = at_hand.world
    bucket = "chromadb-dev-shared-buckets-vectors-c239843"
    given = [
        {"batch_id": name, "result_s3_key": SEED.result_key(name), "result_s3_bucket": bucket}
        for name in NAMES.values()
    ]
    done = normalize(world.pipeline().context, execution_id=BEGUN, poll_results=given)
    found = Result.load_many(world.objects.get(done.poll_results_s3_key).data, "results")
    actions = {result.batch_id: result.action for result in found}
    assert actions == {
        NAMES["no_result"]: Action.UNREADABLE_RESULT,
        NAMES["waiting"]: Action.WAIT,
        NAMES["merged"]: Action.PROCESS_RESULTS,
        NAMES["failed"]: Action.HANDLE_FAILURE,
        NAMES["partial"]: Action.PROCESS_PARTIAL,
        NAMES["cancelled"]: Action.UNREADABLE_RESULT,  # an action that we don't know
    }


def test_lines_are_another_kinds(at_hand: Deployed) -> None:
    """The listing of the words is refused by the lines, and their row stays as it is."""
    world = at_hand.world
    world.kind = LINE
    with pytest.raises(InvalidInput, match="another collection"):
        world.pipeline().ingest(execution_id=BEGUN)
    assert statuses(at_hand) == {what: "COMPLETED" if what == "complete" else "PENDING" for what in NAMES}


# --- registers ------------------------------------------------------------------------------------------------------


def test_a_delta_of_another_format_is_read_again_from_the_provider(at_hand: Deployed) -> None:
    world = at_hand.world
    theirs = register(world, "merged")
    world.pipeline().ingest()
    ours = register(world, "merged")
    assert (theirs.action, ours.action) == (Action.PROCESS_RESULTS, Action.PROCESS_RESULTS)
    assert ours.delta_key not in (None, theirs.delta_key)
    assert theirs.delta_key is not None
    assert (
        world.objects.contents()[theirs.delta_key + "chroma.sqlite3"] == objects()[theirs.delta_key + "chroma.sqlite3"]
    )


def test_their_failures_stay_as_they_said(at_hand: Deployed) -> None:
    world = at_hand.world
    before = world.objects.contents()[SEED.result_key(NAMES["failed"])]
    world.pipeline().run()
    assert world.objects.contents()[SEED.result_key(NAMES["failed"])] == before
    row = world.table.get_many([NAMES["failed"]])[NAMES["failed"]]
    assert (row.provider_status, row.retry_batch_ids) == ("failed", ())


def test_without_its_provider_batch_a_delta_of_theirs_is_named(at_hand: Deployed) -> None:
    """Its vectors are in the delta alone, which is not ours to read: the batch stays open, and the others end."""
    world = at_hand.world
    world.provider._jobs.pop(f"batch_{PREFIX}000003")
    before = register(world, "merged")
    ctx = world.pipeline().context
    with pytest.raises(CorruptData, match=f"{before.delta_key}.*another format.*'not_found' now") as caught:
        poll(ctx, batch_id=NAMES["merged"], execution_id="e")
    assert "stays open" in caught.value.hint
    report = world.pipeline().ingest()
    assert (report.failed, report.marked) == (1, len(NOT_ENDED) - 1)
    assert statuses(at_hand) == {**ENDS, "merged": "PENDING"}
    assert register(world, "merged") == before


@pytest.mark.parametrize("what", sorted(NOT_ENDED))
def test_a_poll_that_is_repeated_says_the_same(at_hand: Deployed, what: str) -> None:
    world = at_hand.world
    ctx = world.pipeline().context
    assert poll(ctx, batch_id=NAMES[what], execution_id="e1").batch_id == NAMES[what]
    first = register(world, what)
    assert first.action in TERMINAL_ACTIONS
    poll(ctx, batch_id=NAMES[what], execution_id="e2")
    assert register(world, what) == first


# --- the table ------------------------------------------------------------------------------------------------------


def test_status_reads_them(at_hand: Deployed) -> None:
    at_hand.world.clock.sleep(BETWEEN_S)
    report = at_hand.world.pipeline().status()
    assert report.counts["PENDING"] == len(NOT_ENDED)
    assert report.counts["COMPLETED"] == 1
    assert {batch.batch_id for batch in report.open} == {NAMES[what] for what in NOT_ENDED}
    assert report.unaccounted == ()


@pytest.mark.parametrize("known", [False, True])
def test_rows_under_words_of_their_own(at_hand: Deployed, known: bool) -> None:
    """The old poller may write what the provider says into the status. Where a layout has these words, they are open."""
    world = at_hand.world
    words = {"VALIDATING": "PENDING", "IN_PROGRESS": "PENDING", "FINALIZING": "PENDING"}
    layout = Layout(more_statuses=words if known else {})
    theirs = {"no_result": "VALIDATING", "waiting": "IN_PROGRESS", "merged": "FINALIZING"}
    table = MemoryBatchTable(layout)
    for item in at_hand.raw():
        word = next((said for what, said in theirs.items() if item["PK"] == f"BATCH#{NAMES[what]}"), None)
        table.write_raw(item if word is None else {**item, "status": word, "GSI1PK": f"STATUS#{word}"})
    world.table, world.config = table, attrs.evolve(world.config, layout=layout)
    world.pipeline().run()
    assert statuses(at_hand) == (ENDS if known else {**ENDS, **theirs})
    assert world.pipeline().status().counts["COMPLETED"] == (6 if known else 3)


def test_items_of_others_are_never_read(at_hand: Deployed) -> None:
    """Not even asked for: the index gives rows of the kind alone, by their sort key."""
    faults = Faults()
    world = at_hand.world
    world.pipeline(table=Watched(world.table, "table", faults)).run()
    assert {call.split()[0] for call in faults.calls} == {"table.by_status", "table.get_many", "table.update"}
