"""What one state does to a state document, after the Amazon States Language: pure, one document in, documents out.

A part that this does not model gives "unknown". Tasks are never called: their contract says what they return, or nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from verify.flow.choices import split
from verify.flow.contract import Contract
from verify.flow.paths import Scope, Trouble, chosen, parse, template
from verify.flow.shape import nested
from verify.flow.values import Value, array, join, json_value, of_kind, put, record, unknown

__all__ = ["Outcome", "Way", "run_state"]

Inner = Callable[[Mapping[str, Any], Scope, str], Sequence[Value]]
"""Runs a machine inside a Map or a Parallel on an input: the documents that it can end with."""

ERROR_OUTPUT: Final = record({"Error": of_kind("string"), "Cause": of_kind("string", "absent")})

INVOKED_PERHAPS: Final = ("ExecutedVersion", "FunctionError", "LogResult", "SdkHttpMetadata", "SdkResponseMetadata")
"""[aws] What `lambda:invoke` may answer beside Payload and StatusCode; what the handler returned is in Payload only."""


@attrs.frozen(kw_only=True)
class Way:
    """One transition: how it is called, where it leads (None: the end), with which document."""

    label: str
    target: str | None
    document: Value


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one document in one state."""

    given: Value
    """What the state works on: its input after InputPath and Parameters."""
    ways: tuple[Way, ...]
    failures: tuple[tuple[str, str], ...] = ()
    """Field of the state and path of a reference that must fail here."""
    size: tuple[Value, int | None] | None = None
    """Of a Map that keeps its result: an item's output, and the most items that there can be."""


class _Failed(Exception):
    """No error of ours: it ends the evaluation of one state."""

    def __init__(self, field: str, path: str) -> None:
        super().__init__(field)
        self.field, self.path = field, path


def run_state(name: str, state: Mapping[str, Any], scope: Scope, contract: Contract, inner: Inner) -> Outcome:
    """The ways on from a state for one document."""
    runner = _Runner(name, state, scope, contract, inner)
    ways: tuple[Way, ...] = ()
    failures = []
    try:
        ways = runner.ways()
    except _Failed as failed:
        failures.append((failed.field, failed.path))
    caught = tuple(_caught(state, scope.input)) if state["Type"] in {"Task", "Map", "Parallel"} else ()
    return Outcome(given=runner.given, ways=ways + caught, failures=tuple(failures), size=runner.size)


def _caught(state: Mapping[str, Any], document: Value) -> list[Way]:
    ways = []
    for rule in state.get("Catch", ()):
        jsonata = "Output" in rule or rule.get("QueryLanguage") == "JSONata" or state.get("QueryLanguage") == "JSONata"
        after = unknown() if jsonata else _result_path(rule.get("ResultPath", "$"), document, ERROR_OUTPUT)
        ways.append(Way(label="Catch", target=rule["Next"], document=after))
    return ways


def _result_path(path: Any, document: Value, result: Value) -> Value:
    if path is None:
        return document
    steps = parse(path)
    return unknown() if steps is None or path.startswith("$$") else put(document, steps, result)


class _Runner:
    """One state and one document."""

    def __init__(self, name: str, state: Mapping[str, Any], scope: Scope, contract: Contract, inner: Inner) -> None:
        self._name, self._state, self._scope = name, state, scope
        self._contract, self._inner = contract, inner
        self.given = scope.input
        self.size: tuple[Value, int | None] | None = None

    def ways(self) -> tuple[Way, ...]:
        """All but the catchers'."""
        if self._state.get("QueryLanguage") == "JSONata":
            return self._jsonata()
        kind = self._state["Type"]
        self.given = self._chosen("InputPath", self._scope.input)
        if kind == "Choice":
            return self._choice()
        if kind == "Fail":
            return ()
        if kind in {"Wait", "Succeed"}:
            return self._onward(self._chosen("OutputPath", self.given))
        items = self._items() if kind == "Map" else None
        if kind != "Map" and "Parameters" in self._state:
            self.given = self._template("Parameters", self._scope.with_input(self.given))
        result = self._result(items)
        if "ResultSelector" in self._state:
            result = self._template("ResultSelector", self._scope.with_input(result))
        after = _result_path(self._state.get("ResultPath", "$"), self._scope.input, result)
        return self._onward(self._chosen("OutputPath", after))

    def _onward(self, document: Value) -> tuple[Way, ...]:
        target = self._state.get("Next") if not self._state.get("End") else None
        return (Way(label="", target=target, document=document),)

    def _chosen(self, field: str, document: Value) -> Value:
        trouble = Trouble()
        value = chosen(self._state.get(field, "$"), self._scope.with_input(document), trouble)
        return self._checked(field, value, trouble)

    def _template(self, field: str, scope: Scope) -> Value:
        trouble = Trouble()
        return self._checked(field, template(self._state[field], scope, trouble), trouble)

    @staticmethod
    def _checked(field: str, value: Value, trouble: Trouble) -> Value:
        if trouble.absent:
            raise _Failed(field, trouble.absent[0])
        return value

    def _choice(self) -> tuple[Way, ...]:
        ways = []
        rest: Value | None = self.given
        for number, rule in enumerate(self._state.get("Choices", ()), 1):
            if rest is None:
                break
            passing, rest = split(rule, self._scope.with_input(rest))
            if passing is not None:
                ways.append(self._after_choice(f"rule {number}", rule["Next"], passing))
        if rest is not None and "Default" in self._state:
            ways.append(self._after_choice("Default", self._state["Default"], rest))
        return tuple(ways)

    def _after_choice(self, label: str, target: str, document: Value) -> Way:
        return Way(label=label, target=target, document=self._chosen("OutputPath", document))

    def _result(self, items: Value | None) -> Value:
        kind = self._state["Type"]
        if kind == "Pass":
            return json_value(self._state["Result"]) if "Result" in self._state else self.given
        if kind == "Task":
            return self._task()
        if kind == "Parallel":
            branches = [
                self._inner(branch, self._scope.with_input(self.given), "") for branch in self._state["Branches"]
            ]
            return _ended(array(elements=[_any_of(ends) for ends in branches], items_max=len(branches)))
        return self._map(items or unknown())

    def _task(self) -> Value:
        resource = str(self._state.get("Resource", ""))
        output = self._contract.output(self._name, resource)
        if "waitForTaskToken" in resource or "lambda:invoke" not in resource:
            return output
        perhaps = {name: unknown(self._name, absent=True) for name in INVOKED_PERHAPS}
        return record({"Payload": output, "StatusCode": of_kind("number"), **perhaps}, origin=self._name)

    def _items(self) -> Value:
        """What a Map goes over; absent where only the object store knows."""
        if "ItemReader" in self._state or "Items" in self._state:
            return array(unknown("ItemReader"))
        field = "ItemsPath"
        found = self._chosen(field, self.given)
        if not found.kinds & {"array", "object"} or ("array" not in found.kinds and not self._distributed):
            raise _Failed(field, f"{self._state.get(field, '$')} is not an array")
        return found

    @property
    def _distributed(self) -> bool:
        processor = self._state.get("ItemProcessor", {})
        return bool(processor.get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED")

    def _map(self, items: Value) -> Value:
        each = _element(items)
        item = record({"Value": each, "Index": of_kind("number")}, others=True)
        context = put(self._scope.context, ("Map", "Item"), item)
        scope = Scope(input=self.given, context=context)
        selector = next((field for field in ("ItemSelector", "Parameters") if field in self._state), None)
        given = self._template(selector, scope) if selector else each
        if "ItemBatcher" in self._state:
            given = record({"Items": array(given), "BatchInput": unknown(absent=True)})
        processor = self._state.get("ItemProcessor", self._state.get("Iterator"))
        ends = self._inner(processor, scope.with_input(given), "each item")
        if "ResultWriter" in self._state:
            return unknown(self._name)
        output = _any_of(ends)
        tolerant = any(field.startswith("ToleratedFailure") for field in self._state)
        if self._state.get("ResultPath", "$") is not None and "ResultSelector" not in self._state and not tolerant:
            self.size = (output, items.items_max)
        return array(unknown(self._name) if tolerant else output, items_max=items.items_max)

    def _jsonata(self) -> tuple[Way, ...]:
        """Only a plain `$states.input` is understood; any other expression gives "unknown"."""
        state, document = self._state, self._scope.input
        kind = state["Type"]
        self.given = document if kind in {"Pass", "Choice", "Wait", "Succeed"} else unknown(self._name)
        if kind == "Task" and "Arguments" not in state:
            self.given = document
        for inner in self._machines():
            self._inner(inner, self._scope.with_input(unknown(self._name)), "")
        if kind == "Fail":
            return ()
        if kind == "Choice":
            rules = [(f"rule {at}", rule["Next"], rule) for at, rule in enumerate(state.get("Choices", ()), 1)]
            rules += [("Default", state["Default"], {})] if "Default" in state else []
            changed = [unknown(self._name) if "Output" in {*rule, *state} else document for _, _, rule in rules]
            return tuple(Way(label=r[0], target=r[1], document=d) for r, d in zip(rules, changed, strict=True))
        result = document if kind in {"Pass", "Wait", "Succeed"} else self._contract.output(self._name, "")
        result = unknown(self._name) if kind in {"Map", "Parallel"} else self._task() if kind == "Task" else result
        if "Output" in state:
            result = _jsonata_value(state["Output"], document, self._name)
        return self._onward(result)

    def _machines(self) -> list[Mapping[str, Any]]:
        return list(nested(self._state))


def _jsonata_value(body: Any, document: Value, origin: str) -> Value:
    if isinstance(body, str) and body.startswith("{%"):
        return document if body[2:-2].strip() == "$states.input" else unknown(origin, absent=True)
    if isinstance(body, Mapping):
        return record({name: _jsonata_value(value, document, origin) for name, value in body.items()})
    if isinstance(body, list):
        return array(unknown(origin))
    return json_value(body)


def _element(items: Value) -> Value:
    if "array" not in items.kinds:
        return unknown(items.origin)
    known = [value for name, value in items.fields if isinstance(name, int)]
    other = [items.items or unknown(items.origin)] if items.others else []
    return _any_of([*known, *other]) if "object" not in items.kinds else unknown(items.origin)


def _any_of(values: Sequence[Value]) -> Value:
    """One of these; anything where there is none, as then nobody reads it."""
    if not values:
        return unknown()
    first, *rest = values
    for value in rest:
        first = join(first, value)
    return first


def _ended(value: Value) -> Value:
    return attrs.evolve(value, others=False)
