"""The order of steps as data: every input comes from an earlier output, and the walk passes on what the data says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from embedpipe import wire
from embedpipe.errors import CorruptData
from embedpipe.flow import INGEST, SUBMIT, Over, Step, event_of, value_at, walk
from embedpipe.layout import Layout
from embedpipe.limits import STATE_BYTES_MAX
from embedpipe.steps.call import CALLS
from embedpipe.wire import encode

OUTPUTS = {
    "submit_result": None,  # a plain object of counts
    "list_result": wire.Listing,
    "poll_results": wire.Reference,
    "poll_results_data": wire.Normalised,
    "chunked_data": wire.Chunked,
    "chunk_results": wire.Packed,
    "final_merge_result": wire.Merged,
    "mark_result": wire.MarkCounts,
}
"""What each step puts into the state."""
ITEMS = {"list_result.pending_batches": wire.PendingBatch, "chunked_data.chunks": wire.ChunkItem}


def names(cls: type[attrs.AttrsInstance]) -> set[str]:
    return {field.name for field in attrs.fields(cls)} - {"raw"}


def test_the_order_and_the_names_are_the_seeds() -> None:
    assert [step.state.format(kind="Word") for step in INGEST] == [
        "SubmitWordBatches",
        "ListPendingWordBatches",
        "PollWordBatches",
        "NormalizePollWordBatchesData",
        "SplitWordIntoChunks",
        "ProcessWordChunks",
        "WordFinalMerge",
        "MarkWordBatchesComplete",
    ]
    assert [step.result for step in INGEST] == list(OUTPUTS)
    assert {step.name: step.over.items for step in INGEST if step.over} == {
        "poll": "list_result.pending_batches",
        "process_chunk": "chunked_data.chunks",
    }
    assert {step.name: step.again for step in INGEST if step.again} == {"final_merge": "more"}


def test_every_step_has_its_call() -> None:
    assert [step.name for step in (*SUBMIT, *INGEST)] == list(CALLS)


@pytest.mark.parametrize("step", INGEST, ids=lambda step: step.name)
def test_every_input_is_an_earlier_output(step: Step) -> None:
    earlier = {one.result for one in INGEST[: INGEST.index(step)]}
    own = {step.result} if step.again else set()
    for path in [*step.inputs.values(), *([step.over.items] if step.over else [])]:
        head, _, field = path.partition(".")
        assert head == "execution_id" or head in earlier | own, f"{path} is nobody's output"
        output = OUTPUTS.get(head)
        assert not field or (output is not None and field in names(output)), f"{head} has no {field}"


@pytest.mark.parametrize("step", [step for step in INGEST if step.over], ids=lambda step: step.name)
def test_a_fan_out_reads_items_that_are_there(step: Step) -> None:
    assert step.over is not None
    item = ITEMS[step.over.items]
    assert set(step.over.item.values()) <= names(item)
    assert getattr(Layout(), step.over.stored)("e").endswith(".json")


def test_the_key_of_the_results_travels_to_the_end() -> None:
    """The seed's second critical dependency."""
    for step in INGEST[4:]:
        if step.over is None:
            assert step.inputs["poll_results_s3_key"] == "poll_results_data.poll_results_s3_key"
            assert step.inputs["poll_results_s3_bucket"] == "poll_results_data.poll_results_s3_bucket"


@pytest.mark.parametrize(
    ("state", "path", "value"),
    [
        ({"a": {"b": 0}}, "a.b", 0),
        ({"a": {"b": None}}, "a.b", None),
        ({"a": None}, "a.b", None),
        ({"a": [1]}, "a.b", None),
        ({"a": "text"}, "a.b", None),
        ({}, "a", None),
    ],
)
def test_what_is_missing_on_the_way_is_null(state: dict[str, Any], path: str, value: object) -> None:
    assert value_at(state, path) == value


# --- the walk ------------------------------------------------------------------------------------------------------

FAN = Step(
    name="fan",
    state="Fan",
    inputs={"run": "execution_id", "more": "first.more"},
    result="fanned",
    over=Over(items="first.items", stored="items_key", item={"name": "id", "other": "missing"}),
)
FIRST = Step(name="first", state="First", inputs={"run": "execution_id"}, result="first")
LAST = Step(name="last", state="Last", inputs={"given": "fanned"}, result="last")


class Engine:
    """Answers steps from a table and notes what they were given."""

    def __init__(self, answers: Mapping[str, Sequence[dict[str, Any]]], stored: Sequence[dict[str, Any]] = ()) -> None:
        self.answers = {name: list(given) for name, given in answers.items()}
        self.stored = stored
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.reads: list[tuple[str, str]] = []

    def invoke(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        self.events.append((name, dict(event)))
        answers = self.answers[name]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def fan_out(self, step: Step, items: Sequence[Mapping[str, Any]], work: Any) -> list[Any]:
        assert step.over is not None
        return [work(at) for at in reversed(range(len(items)))][::-1]

    def read_items(self, stored: str, execution_id: str) -> Sequence[Mapping[str, Any]]:
        self.reads.append((stored, execution_id))
        return self.stored

    def walk(self, *steps: Step) -> dict[str, Any]:
        return walk(steps, {"execution_id": "e"}, invoke=self.invoke, fan_out=self.fan_out, read_items=self.read_items)


def test_an_inline_fan_out_hands_each_iteration_its_own_item() -> None:
    engine = Engine({"first": [{"items": [{"id": "a"}, {"id": "b"}]}], "fan": [{"ok": 1}], "last": [{}]})
    state = engine.walk(FIRST, FAN, LAST)
    assert engine.events[0] == ("first", {"run": "e"})
    assert sorted(engine.events[1:3], key=str) == [
        ("fan", {"run": "e", "more": None, "name": "a", "other": None}),
        ("fan", {"run": "e", "more": None, "name": "b", "other": None}),
    ]
    assert engine.events[3] == ("last", {"given": [{"ok": 1}, {"ok": 1}]})
    assert state["fanned"] == [{"ok": 1}, {"ok": 1}]
    assert engine.reads == []


def test_a_long_fan_out_reads_its_items_and_discards_its_output() -> None:
    engine = Engine({"first": [{"items": None}], "fan": [{"ok": 1}], "last": [{}]}, stored=[{"id": "a"}] * 60)
    state = engine.walk(FIRST, FAN, LAST)
    assert engine.reads == [("items_key", "e")]
    assert [name for name, _ in engine.events].count("fan") == 60
    assert state["fanned"] is None
    assert engine.events[-1] == ("last", {"given": None})


def test_an_empty_fan_out_is_not_a_long_one() -> None:
    engine = Engine({"first": [{"items": []}], "last": [{}]})
    assert engine.walk(FIRST, FAN, LAST)["fanned"] == []
    assert engine.reads == []


def test_a_step_is_called_again_with_its_own_output_while_it_asks() -> None:
    again = Step(name="merge", state="M", inputs={"next": "merged.next"}, result="merged", again="more")
    engine = Engine({"merge": [{"more": True, "next": 1}, {"more": True, "next": 2}, {"more": False, "next": 3}]})
    assert engine.walk(again)["merged"] == {"more": False, "next": 3}
    assert [event for _, event in engine.events] == [{"next": None}, {"next": 1}, {"next": 2}]


def test_a_state_that_no_workflow_could_carry_is_refused() -> None:
    room = STATE_BYTES_MAX - len(encode({"execution_id": "e", "first": {"text": ""}}))
    Engine({"first": [{"text": "x" * room}]}).walk(FIRST)
    with pytest.raises(CorruptData, match="The state after first has 262145 bytes; a workflow carries 262144"):
        Engine({"first": [{"text": "x" * (room + 1)}]}).walk(FIRST)


def test_an_event_without_an_item_is_the_inputs_alone() -> None:
    assert event_of(FAN, {"execution_id": "e"}) == {"run": "e", "more": None}
