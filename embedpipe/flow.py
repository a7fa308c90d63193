"""The order of the steps, their inputs, outputs and fan-out, as data; and the walk that follows it.

The local runner, the state machine and the simulator all derive from `INGEST`: the order exists once. A workflow state is one
JSON object; a step takes the values that `inputs` names and its output is put under `result`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from embedpipe.errors import CorruptData
from embedpipe.limits import STATE_BYTES_MAX
from embedpipe.wire import encode

State = dict[str, Any]


@attrs.frozen(kw_only=True)
class Over:
    """A fan-out: one call of the step for each item."""

    items: str
    """Path of the inline array. Where it is null, the items are read from the object store."""
    stored: str
    """Name of the `Layout` method that gives the key of the stored array, from the execution's id."""
    item: Mapping[str, str]
    """Argument -> field of the item."""


@attrs.frozen(kw_only=True)
class Step:
    """One state of the workflow."""

    name: str
    """Name in `steps.call.CALLS`."""
    state: str
    """The state's name; `{kind}` stands for `Word` and so on."""
    inputs: Mapping[str, str]
    """Argument -> path in the state; a missing value is passed as null."""
    result: str
    """Where the output goes."""
    over: Over | None = None
    again: str | None = None
    """Field of the output that asks for another call while it is true; the output is then part of the inputs."""


RESULTS_KEY: Final = "poll_results_s3_key"
RESULTS_BUCKET: Final = "poll_results_s3_bucket"

_EXECUTION: Final = {"execution_id": "execution_id"}
_RESULTS: Final = {
    RESULTS_KEY: f"poll_results_data.{RESULTS_KEY}",
    RESULTS_BUCKET: f"poll_results_data.{RESULTS_BUCKET}",
}

INGEST: Final = (
    Step(name="create_pending", state="Submit{kind}Batches", inputs=_EXECUTION, result="submit_result"),
    Step(name="list_pending", state="ListPending{kind}Batches", inputs=_EXECUTION, result="list_result"),
    Step(
        name="poll",
        state="Poll{kind}Batches",
        inputs=_EXECUTION,
        result="poll_results",
        over=Over(
            items="list_result.pending_batches",
            stored="items_key",
            item={"batch_id": "batch_id", "openai_batch_id": "openai_batch_id"},
        ),
    ),
    Step(
        name="normalize",
        state="NormalizePoll{kind}BatchesData",
        inputs={"batch_id": "execution_id", "poll_results": "poll_results"},
        result="poll_results_data",
    ),
    Step(
        name="split",
        state="Split{kind}IntoChunks",
        inputs={**_EXECUTION, **_RESULTS},
        result="chunked_data",
    ),
    Step(
        name="process_chunk",
        state="Process{kind}Chunks",
        inputs=_EXECUTION,
        result="chunk_results",
        over=Over(items="chunked_data.chunks", stored="chunks_key", item={"index": "index", "chunk_id": "chunk_id"}),
    ),
    Step(
        name="final_merge",
        state="{kind}FinalMerge",
        inputs={**_EXECUTION, **_RESULTS, "next_chunk": "final_merge_result.next_chunk"},
        result="final_merge_result",
        again="more",
    ),
    Step(
        name="mark_complete",
        state="Mark{kind}BatchesComplete",
        inputs={**_EXECUTION, **_RESULTS},
        result="mark_result",
    ),
)
"""One execution of the ingest workflow."""

SUBMIT: Final = (
    Step(
        name="submit",
        state="Submit{kind}Records",
        inputs={**_EXECUTION, "records_s3_key": "records_s3_key"},
        result="submit_result",
    ),
)
"""One submission: the records are lines of JSON in one object."""


class Invoke(Protocol):
    """Calls one step: JSON object in, JSON object out."""

    def __call__(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]: ...


def value_at(state: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where a part of it is missing or null.

    >>> value_at({"a": {"b": 1}}, "a.b"), value_at({"a": None}, "a.b")
    (1, None)
    """
    value: Any = state
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def event_of(step: Step, state: Mapping[str, Any], item: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What one call of the step is given."""
    event = {name: value_at(state, path) for name, path in step.inputs.items()}
    if step.over is not None and item is not None:
        event.update({name: item.get(field) for name, field in step.over.item.items()})
    return event


def walk(
    steps: Sequence[Step],
    state: State,
    *,
    invoke: Invoke,
    fan_out: Callable[[Step, Sequence[Mapping[str, Any]], Callable[[int], Any]], list[Any]],
    read_items: Callable[[str, str], Sequence[Mapping[str, Any]]],
) -> State:
    """Follow the steps. Raises what `invoke` raises; `CorruptData` where a state outgrows what a workflow may carry.

    `fan_out(step, items, work)` runs `work(i)` for each item; `read_items(layout method, execution_id)` reads stored items.
    """
    for step in steps:
        if step.over is None:
            _call(step, state, invoke)
        else:
            inline = value_at(state, step.over.items)
            items = read_items(step.over.stored, state["execution_id"]) if inline is None else inline

            def work(at: int, step: Step = step, items: Sequence[Mapping[str, Any]] = items) -> Any:
                return invoke(step.name, event_of(step, state, items[at]))

            outputs = fan_out(step, items, work)
            # A Distributed Map discards its output: the next step finds the results by their keys.
            state[step.result] = None if inline is None else outputs
        _check_size(step, state)
    return state


def _call(step: Step, state: State, invoke: Invoke) -> None:
    while True:
        state[step.result] = invoke(step.name, event_of(step, state))
        if step.again is None or not state[step.result].get(step.again):
            return


def _check_size(step: Step, state: State) -> None:
    size_bytes = len(encode(state))
    if size_bytes > STATE_BYTES_MAX:
        raise CorruptData(f"The state after {step.name} has {size_bytes} bytes; a workflow carries {STATE_BYTES_MAX}.")
