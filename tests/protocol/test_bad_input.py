"""What a state machine may hand over by mistake, and objects that go away while an execution runs.

Each is an error that names the field or the object. Rows stay as they were, nothing is submitted again, and a later
execution ends everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import pytest

from embedpipe.errors import CorruptData, EmbedpipeError, InvalidId, InvalidInput, NotFound
from embedpipe.flow import INGEST, SUBMIT, event_of
from embedpipe.pipeline import Pipeline
from embedpipe.steps.call import CALLS
from tests.harness import Faults
from tests.protocol.scenes import EXPIRED_ALL, QUICK, behaviours, keys, records, settle, texts
from tests.worlds import CONFIG, SmallWorld

STEPS: Final = {step.name: step for step in SUBMIT + INGEST}
MAY_BE_NULL: Final = {
    # The first call has none; a Distributed Map discards its output; the bucket is our own.
    ("final_merge", "next_chunk"),
    ("normalize", "poll_results"),
    ("poll", "openai_batch_id"),
    ("process_chunk", "chunk_id"),
    *((step, "poll_results_s3_bucket") for step in ("split", "final_merge", "mark_complete")),
}
NOBODY_READS: Final = {
    ("poll", "openai_batch_id"),
    ("process_chunk", "chunk_id"),
    ("final_merge", "poll_results_s3_key"),
}
"""The row says it, and the list of chunks; the last is carried on. Whatever they are, they decide nothing here."""

Events = dict[str, dict[str, Any]]


def events(world: SmallWorld) -> Events:
    """The first input of each step in a run of one execution, which has ended."""
    found: Events = {}
    ctx = world.pipeline().context
    state: dict[str, Any] = {"execution_id": "e1", "records_s3_key": "records.jsonl"}
    world.objects.put("records.jsonl", b'{"id": "a", "text": "a 1"}\n')
    for step in SUBMIT + INGEST:
        items: list[Mapping[str, Any] | None] = [None]
        if step.over is not None:
            field, _, name = step.over.items.partition(".")
            items = list(state[field][name])
        outputs = []
        for item in items:
            found.setdefault(step.name, event_of(step, state, item))
            outputs.append(CALLS[step.name](ctx, found[step.name]))
        state[step.result] = outputs if step.over is not None else outputs[0]
    return found


@pytest.fixture(scope="module")
def whole() -> Events:
    """What is right."""
    return events(SmallWorld(QUICK))


def before(world: SmallWorld) -> tuple[object, ...]:
    """What no refused input may change."""
    return dict(world.observe().rows), len(world.provider.creates), world.objects.contents()


FIELDS: Final = [
    (name, argument)
    for name, step in STEPS.items()
    for argument in [*step.inputs, *(step.over.item if step.over else ())]
]


@pytest.fixture(scope="module")
def running() -> SmallWorld:
    """Two batches with the provider, and an execution that has gone all the way once."""
    world = SmallWorld(QUICK)
    events(world)
    world.pipeline().submit(records("b c d e", "1"))
    return world


@pytest.mark.parametrize(("name", "argument"), FIELDS)
def test_a_field_that_is_missing_or_null_is_named(running: SmallWorld, whole: Events, name: str, argument: str) -> None:
    lacking = {key: value for key, value in whole[name].items() if key != argument}
    for event in (lacking, {**lacking, argument: None}):
        if (name, argument) in MAY_BE_NULL:
            CALLS[name](running.pipeline().context, event)
            continue
        held = before(running)
        with pytest.raises(CorruptData, match=f"'{argument}'") as caught:
            CALLS[name](running.pipeline().context, event)
        assert "every path of the workflow" in caught.value.hint
        assert before(running) == held


@pytest.mark.parametrize(("name", "argument"), [pair for pair in FIELDS if pair not in NOBODY_READS])
@pytest.mark.parametrize(
    "wrong", [7.5, -1, True, {"a": 1}, "", "../../etc", "x" * 3_000, "\ud800"], ids=lambda given: ascii(given)[:12]
)
def test_a_field_of_another_kind_is_refused(
    running: SmallWorld, whole: Events, name: str, argument: str, wrong: object
) -> None:
    held = before(running)
    with pytest.raises((CorruptData, InvalidInput, NotFound)) as caught:
        CALLS[name](running.pipeline().context, {**whole[name], argument: wrong})
    assert len(str(caught.value)) < 600
    assert before(running) == held


def test_what_names_nothing_says_so(running: SmallWorld, whole: Events) -> None:
    held = before(running)
    ctx = running.pipeline().context
    for name, changed, error, words in (
        ("poll", {"batch_id": "nobodys"}, NotFound, "Batch nobodys has no row"),
        ("normalize", {"batch_id": "never"}, NotFound, "manifests/never/batches.json is missing.*Start a new one"),
        ("split", {"poll_results_s3_key": "poll_results/x/none.json"}, NotFound, "poll_results/x/none.json"),
        ("mark_complete", {"poll_results_s3_key": "poll_results/x/none.json"}, NotFound, "poll_results/x/none.json"),
        ("mark_complete", {"poll_results_s3_bucket": "another"}, CorruptData, "'another'; this pipeline's is 'memory'"),
        ("process_chunk", {"index": 1}, CorruptData, "chunks/e1/chunks.json has 1 chunks, and none with the index 1"),
        ("process_chunk", {"execution_id": "never"}, NotFound, "chunks/never/chunks.json"),
        ("final_merge", {"execution_id": "never"}, NotFound, "chunks/never/chunks.json"),
        ("create_pending", {"execution_id": "a/b"}, InvalidId, "execution_id"),
        ("submit", {"records_s3_key": "records/none.jsonl"}, NotFound, "records/none.jsonl"),
    ):
        with pytest.raises(error, match=words):
            CALLS[name](ctx, {**whole[name], **changed})
    assert before(running) == held


def test_another_execution_of_the_same_name_lists_what_the_first_one_did() -> None:
    """An execution's id is its identity, whatever its input says: a second run of it finds the first one's listing."""
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a", "1"))
    world.pipeline().ingest(execution_id="e")
    world.pipeline().submit(records("b", "1"))
    report = world.pipeline().ingest(execution_id="e")
    assert (report.listed, report.waiting) == (1, 1)
    settle(world, texts("a b", "1"))


# --- a manifest that does not match ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            b'{"execution_id":"other","created_at":"t","total_batches":0,"batches":[]}',
            "the listing of execution 'other'",
        ),
        (b'{"execution_id":"e","created_at":"t","total_batches":5,"batches":[]}', "says 5 batches and names 0"),
        (b'{"execution_id":"e","created_at":"t","total_batches":0,"batches":{}}', "expected an array"),
        (b'{"execution_id":"e"}', "created_at"),
        (b"{torn", "is not JSON"),
        (b"", "is not JSON"),
    ],
)
@pytest.mark.parametrize("place", ["manifests/e/batches.json", "poll_manifests/e/manifest.json"])
def test_a_manifest_that_does_not_match(given: bytes, words: str, place: str) -> None:
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a b c d", "1"))
    world.objects.put(place, given)
    held = before(world)
    with pytest.raises(CorruptData, match=words) as caught:
        world.pipeline().ingest(execution_id="e")
    assert place in str(caught.value)
    assert before(world) == held
    world.objects.delete(place)
    settle(world, texts("a b c d", "1"))


# --- an object that goes away mid-run -------------------------------------------------------------------------------

VANISHING: Final = (
    "manifests/e/batches.json",
    "manifests/e/items.json",
    "/result.json",
    "e/poll_results.json",
    "/vectors.arrow",
    "/rejected.jsonl",
    "/retry.jsonl",
    "/delta.json",
    "chunks/e/chunks.json",
    "intermediate/e/000000.arrow",
    "intermediate/e/000000.json",
    "marked.json",
)
"""What one execution writes: it can be made again."""


def gone_once_written(world: SmallWorld, part: str) -> Pipeline:
    """A process on the world; as soon as an object whose key contains `part` is written, it goes away."""
    faults = Faults()

    def delete() -> None:
        for key in keys(world, part):
            world.objects.delete(key)

    for effect in ("objects.put", "objects.upload"):
        faults.after(effect, delete, on=part)
    return faults.pipeline(world)


@pytest.mark.parametrize("inline_max", [50, 1], ids=["inline", "by-key"])
@pytest.mark.parametrize("part", VANISHING)
def test_what_an_execution_wrote_goes_away(part: str, inline_max: int) -> None:
    """The execution ends well without it, or says which object is missing; the next one ends everything, paid once."""
    retries = part != "/vectors.arrow"  # without vectors, a batch can do without that file
    config = attrs.evolve(CONFIG, policy=attrs.evolve(CONFIG.policy, inline_batches_max=inline_max))
    world = SmallWorld(behaviours(EXPIRED_ALL) if retries else QUICK, config=config)
    world.pipeline().submit(records("a b c d", "1"))
    paid = len(world.provider.paid)
    said = None
    try:
        gone_once_written(world, part).ingest(execution_id="e")
    except EmbedpipeError as error:
        said = error
    assert said is None or (part in str(said) and isinstance(said, NotFound | CorruptData))
    settle(world, texts("a b c d", "1"))
    assert len(world.provider.paid) == paid + retries  # of the batch that expired


@pytest.mark.parametrize("part", ["records.arrow", "head.json"])
def test_what_cannot_be_made_again_is_asked_for(part: str) -> None:
    world = SmallWorld(QUICK)
    world.pipeline().submit(records("a b c d", "1"))
    kept = {key: world.objects.get(key).data for key in keys(world, part)}
    for key in kept:
        world.objects.delete(key)
    rows, paid = dict(world.observe().rows), len(world.provider.paid)
    with pytest.raises(EmbedpipeError, match=part) as caught:
        world.pipeline().run(records("e", "1"))
    assert "backup" in caught.value.hint
    assert (dict(world.observe().rows), len(world.provider.paid)) == (rows, paid)
    for key, data in kept.items():
        world.objects.put(key, data)
    settle(world, texts("a b c d", "1"))
