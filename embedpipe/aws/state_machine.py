"""The Amazon States Language of a flow, built from its data: no order, path or retry is decided here.

One convention carries every value: a step's output goes under its `result`, and its inputs are paths of the one state, null
where nothing has set them. So a value that a later step needs cannot be lost on a path, as there is one path only.
Names in `${...}` are filled in by the deployment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from embedpipe import flow
from embedpipe.errors import Transient
from embedpipe.flow import Over, Step
from embedpipe.layout import SEED, Layout
from embedpipe.model import Kind
from embedpipe.retry import RetryPolicy

Definition = dict[str, Any]

BUCKET: Final = "${Bucket}"
"""Where the objects are."""
OUTPUTS: Final = "intermediate"
"""Where a Distributed Map leaves what nobody reads; a lifecycle rule removes it."""
MAP_CONCURRENCY: Final = 40
"""[aws] About what an inline Map reaches."""
LAMBDA_FAULTS: Final = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "States.Timeout",
)
"""[aws] Failures of the service and not of the step: also a function that ran out of memory (`Runtime.ExitError`) or time
(`Sandbox.Timedout`; `Lambda.Unknown` for both in older runtimes). Steps are idempotent, so each may be repeated.
"""


def ingest(kind: Kind, *, layout: Layout = SEED, policy: RetryPolicy | None = None) -> Definition:
    """The definition of one ingest execution of a kind."""
    return machine(flow.INGEST, kind, layout=layout, policy=policy or RetryPolicy())


def submit(kind: Kind, *, layout: Layout = SEED, policy: RetryPolicy | None = None) -> Definition:
    """The definition of one submission of a kind. Its input names the object with the records."""
    return machine(flow.SUBMIT, kind, layout=layout, policy=policy or RetryPolicy())


def machine(steps: Sequence[Step], kind: Kind, *, layout: Layout, policy: RetryPolicy) -> Definition:
    """The definition of any flow."""
    title = title_of(kind)
    chain = [_Chain(step, title, layout, policy) for step in steps]
    states: Definition = {BEGIN: _begin(steps) | {"Next": chain[0].entry}}
    for at, link in enumerate(chain):
        follower = chain[at + 1].entry if at + 1 < len(chain) else None
        states.update(link.states(follower))
    return {
        "Comment": f"embedpipe: {kind.name} into collection {kind.collection} of database {kind.database}",
        "StartAt": BEGIN,
        "States": states,
    }


def title_of(kind: Kind) -> str:
    """The kind as it stands in names of states and functions.

    >>> title_of(Kind("word")), title_of(Kind("my-notes"))
    ('Word', 'MyNotes')
    """
    return "".join(part[:1].upper() + part[1:] for part in kind.name.replace("_", "-").split("-"))


def function_of(step: Step) -> str:
    """The placeholder of a step's function.

    >>> function_of(flow.INGEST[0])
    '${CreatePendingFunctionArn}'
    """
    return "${" + "".join(part.capitalize() for part in step.name.split("_")) + "FunctionArn}"


def retriers(policy: RetryPolicy) -> list[Definition]:
    """`Retry` of every step: what the one policy repeats, and what the service itself fails with."""
    if policy.attempts == 1:
        return []
    first_s = max(1, math.ceil(policy.first_delay_s))
    return [
        {
            "ErrorEquals": [*sorted(_names(Transient)), *LAMBDA_FAULTS],
            "IntervalSeconds": first_s,
            "MaxAttempts": policy.attempts - 1,
            "BackoffRate": float(policy.rate),
            "MaxDelaySeconds": max(first_s + 1, math.ceil(policy.delay_max_s)),
        }
    ]


def _names(error: type[BaseException]) -> Iterator[str]:
    """The class and all below it, by the names under which a function reports them."""
    yield error.__name__
    for child in error.__subclasses__():
        yield from _names(child)


BEGIN: Final = "Begin"


def _begin(steps: Sequence[Step]) -> Definition:
    """The first state: the execution's id, the input, and null for all that is read before it is set."""
    parameters: Definition = {"execution_id.$": "$$.Execution.Name"}
    results = {step.result for step in steps}
    for step in steps:
        for path in step.inputs.values():
            head, _, rest = path.partition(".")
            if head in results:
                continue
            if head != "execution_id":
                parameters[f"{head}.$"] = f"$$.Execution.Input.{head}"
            assert not rest, "an input of the execution is a plain field"
        if step.again is not None:
            own = (path.split(".", 1)[1] for path in step.inputs.values() if path.startswith(f"{step.result}."))
            parameters[step.result] = dict.fromkeys(own)
        if step.over is not None:
            parameters[step.result] = None
    return {"Type": "Pass", "Parameters": parameters}


class _Chain:
    """The states of one step."""

    def __init__(self, step: Step, title: str, layout: Layout, policy: RetryPolicy) -> None:
        self._step = step
        self._layout = layout
        self._policy = policy
        self._name = step.state.format(kind=title)

    @property
    def entry(self) -> str:
        """The state to go to."""
        return f"{self._name}Choice" if self._step.over is not None else self._name

    def states(self, follower: str | None) -> Definition:
        """Its states by name."""
        if self._step.over is not None:
            return self._fan_out(self._step.over, follower)
        if self._step.again is None:
            return {self._name: self._task(self._event()) | self._result() | _then(follower)}
        choice = f"{self._name}Choice"
        loop = {"Variable": f"$.{self._step.result}.{self._step.again}", "BooleanEquals": True, "Next": self._name}
        done = f"{self._name}Done"
        return {
            self._name: self._task(self._event()) | self._result() | {"Next": choice},
            choice: {"Type": "Choice", "Choices": [loop], "Default": follower or done},
            **({} if follower else {done: {"Type": "Succeed"}}),
        }

    def _event(self) -> Definition:
        return {f"{name}.$": f"$.{path}" for name, path in self._step.inputs.items()}

    def _task(self, parameters: Definition) -> Definition:
        task: Definition = {"Type": "Task", "Resource": function_of(self._step), "Parameters": parameters}
        found = retriers(self._policy)
        return task | ({"Retry": found} if found else {})

    def _result(self) -> Definition:
        return {"ResultPath": f"$.{self._step.result}"}

    def _fan_out(self, over: Over, follower: str | None) -> Definition:
        """An inline Map where the items are in the state, else a Distributed Map over the stored ones."""
        stored = f"{self._name}Distributed"
        choice = {"Variable": f"$.{over.items}", "IsNull": True, "Next": stored}
        selector = self._event() | {f"{name}.$": f"$$.Map.Item.Value.{field}" for name, field in over.item.items()}
        inline: Definition = {
            "Type": "Map",
            "ItemsPath": f"$.{over.items}",
            "ItemSelector": selector,
            "MaxConcurrency": MAP_CONCURRENCY,
            "ItemProcessor": self._processor(selector, {"Mode": "INLINE"}, ""),
            **self._result(),
        }
        key = formatted(stored_key(over, self._layout))
        distributed: Definition = {
            "Type": "Map",
            "ItemReader": {
                "Resource": "arn:aws:states:::s3:getObject",
                "ReaderConfig": {"InputType": "JSON"},
                "Parameters": {"Bucket": BUCKET, "Key.$": key},
            },
            "ItemSelector": selector,
            "MaxConcurrency": MAP_CONCURRENCY,
            # What failed is told by the register, or its absence. A percentage: a count would stop at a number.
            "ToleratedFailurePercentage": 100.0,
            "ItemProcessor": self._processor(
                selector, {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, "Distributed"
            ),
            # Outputs would outgrow the state; the next step finds the results by their keys.
            "ResultWriter": {
                "Resource": "arn:aws:states:::s3:putObject",
                "Parameters": {
                    "Bucket": BUCKET,
                    "Prefix.$": formatted(f"{OUTPUTS}/{{execution_id}}/{self._step.name}", "$$.Execution.Name"),
                },
            },
            "ResultPath": None,
        }
        return {
            self.entry: {"Type": "Choice", "Choices": [choice], "Default": self._name},
            self._name: inline | _then(follower),
            stored: distributed | _then(follower),
        }

    def _processor(self, selector: Definition, config: Definition, suffix: str) -> Definition:
        """One iteration: the task, and an empty output where it fails for good, so that the others go on."""
        one, failed = f"{self._name}Item{suffix}", f"{self._name}ItemFailed{suffix}"
        catch = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": failed}]
        parameters = {name: f"$.{name.removesuffix('.$')}" for name in selector}
        return {
            "ProcessorConfig": config,
            "StartAt": one,
            "States": {
                one: self._task(parameters) | {"Catch": catch, "End": True},
                failed: {"Type": "Pass", "OutputPath": None, "End": True},
            },
        }


def formatted(template: str, execution_id: str = "$.execution_id") -> str:
    """A key template as an intrinsic function.

    >>> formatted("manifests/{execution_id}/items.json")
    "States.Format('manifests/{}/items.json', $.execution_id)"
    """
    before, _, after = template.partition("{execution_id}")
    text = "{}".join(part.replace("\\", "\\\\").replace("'", "\\'") for part in (before, after))
    return f"States.Format('{text}', {execution_id})"


def stored_key(over: Over, layout: Layout) -> str:
    """The template of the key that a Distributed Map reads its items from.

    >>> [stored_key(step.over, SEED) for step in flow.INGEST if step.over]
    ['manifests/{execution_id}/items.json', 'chunks/{execution_id}/chunks.json']
    """
    template: str = getattr(layout, over.stored.removesuffix("_key"))  # the field behind the method
    return template


def _then(follower: str | None) -> Definition:
    return {"Next": follower} if follower else {"End": True}


def placeholders(definition: Mapping[str, Any]) -> Iterator[str]:
    """The names in `${...}` that a deployment has to fill in."""
    for value in definition.values():
        if isinstance(value, Mapping):
            yield from placeholders(value)
        elif isinstance(value, str) and value.startswith("${"):
            yield value[2:-1]
