"""The shape of a definition: is it one, do its transitions lead somewhere, does it end. `WrongQuestion` where not.

It checks what the analysis leans on, not all of the language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from verify.audit.findings import WrongQuestion

__all__ = ["check", "followers", "nested", "reachable"]

TYPES: Final = frozenset({"Task", "Pass", "Choice", "Map", "Parallel", "Wait", "Succeed", "Fail"})
States = Mapping[str, Mapping[str, Any]]


def check(definition: Mapping[str, Any], where: str) -> None:
    """Refuse what is not a state machine."""
    states, start = definition.get("States"), definition.get("StartAt")
    if not isinstance(states, Mapping) or not states:
        raise WrongQuestion(f"{where} is not a state machine: States is not an object with states.")
    if not isinstance(start, str) or start not in states:
        raise WrongQuestion(f"{where}: StartAt names {start!a}, which is no state.")
    for name, state in states.items():
        _check_state(name, state, states, where)
        for inner in nested(state):
            check(inner, f"{where}: {name}")
    if not any(_ends(states[name]) for name in reachable(definition)):
        raise WrongQuestion(
            f"{where} never ends: {' -> '.join(_cycle(states, start))}.", hint="Give a state End: true."
        )


def _check_state(name: object, state: Any, states: Mapping[str, Any], where: str) -> None:
    if not isinstance(name, str) or not isinstance(state, Mapping):
        raise WrongQuestion(f"{where}: state {name!a} is not an object.")
    if not isinstance(state.get("Type"), str) or state["Type"] not in TYPES:
        raise WrongQuestion(
            f"{where}: state {name!a} has the type {state.get('Type')!a}, which is none of the language."
        )
    for rule in _lists(state, "Choices", "Catch"):
        if not isinstance(rule, Mapping) or not _boolean(rule):
            raise WrongQuestion(f"{where}: state {name!a} has a rule that is not one.")
    for target in followers(state):
        if not isinstance(target, str) or target not in states:
            raise WrongQuestion(f"{where}: state {name!a} leads to {target!a}, which is no state.")
    if state["Type"] == "Map" and len(list(nested(state))) != 1:
        raise WrongQuestion(f"{where}: Map {name!a} has no ItemProcessor.")
    if state["Type"] == "Parallel" and not _all_objects(state.get("Branches")):
        raise WrongQuestion(f"{where}: Parallel {name!a} has no Branches that are machines.")
    paths = [state.get(key) for key in ("InputPath", "OutputPath", "ResultPath", "ItemsPath")]
    paths += [rule.get("ResultPath") for rule in _lists(state, "Catch")]
    if any(not isinstance(path, str | None) for path in paths):
        raise WrongQuestion(f"{where}: a path of state {name!a} is not text.")
    if not (_ends(state) or any(True for _ in followers(state))):
        raise WrongQuestion(f"{where}: state {name!a} has neither Next nor End.")


def _all_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _boolean(rule: Mapping[str, Any]) -> bool:
    """Whether all inner rules of a choice rule are rules."""
    inner = [one for key in ("And", "Or") if key in rule for one in (rule[key] if isinstance(rule[key], list) else [0])]
    inner += [rule["Not"]] if "Not" in rule else []
    return all(isinstance(one, Mapping) and _boolean(one) for one in inner)


def _lists(state: Mapping[str, Any], *keys: str) -> Iterator[Any]:
    for key in keys:
        value = state.get(key, [])
        yield from value if isinstance(value, list) else [None]


def _ends(state: Mapping[str, Any]) -> bool:
    return bool(state.get("End")) or state["Type"] in {"Succeed", "Fail"}


def followers(state: Mapping[str, Any]) -> Iterator[Any]:
    """The names of the states that a state leads to."""
    if "Next" in state and state.get("Type") != "Choice":
        yield state["Next"]
    if "Default" in state:
        yield state["Default"]
    for rule in _lists(state, "Choices", "Catch"):
        yield rule.get("Next")


def nested(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The machines inside a Map or a Parallel."""
    if state["Type"] == "Map":
        inner = state.get("ItemProcessor", state.get("Iterator"))
        yield from [inner] if isinstance(inner, Mapping) else []
    elif state["Type"] == "Parallel":
        yield from (branch for branch in _lists(state, "Branches") if isinstance(branch, Mapping))


def reachable(definition: Mapping[str, Any]) -> list[str]:
    """The states that a path leads to, in the order of a walk."""
    found = {definition["StartAt"]: None}
    queue = [definition["StartAt"]]
    for name in queue:
        for target in followers(definition["States"][name]):
            if target not in found:
                found[target] = None
                queue.append(target)
    return list(found)


def _cycle(states: States, start: str) -> list[str]:
    trail = [start]
    while (target := next(followers(states[trail[-1]]))) not in trail:
        trail.append(target)
    return [*trail, target]
