"""What a Choice proves: each rule splits a state document into those that pass and those that do not.

A test of a variable that is not there fails at run time, but for `IsPresent`. What can't be told is on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from verify.flow.paths import Scope, parse, peek
from verify.flow.values import ABSENT, Value, get, json_value, put

__all__ = ["split"]

_KIND_TESTS: Final = {"IsNull": "null", "IsString": "string", "IsNumeric": "number", "IsBoolean": "boolean"}
_COMPARED: Final = {"String": "string", "Numeric": "number", "Boolean": "boolean", "Timestamp": "string"}
Sides = tuple[Value | None, Value | None]
"""The document where the test holds, and where it does not; None: it never does."""


def split(rule: Mapping[str, Any], scope: Scope) -> Sides:
    """The documents on both sides of a rule."""
    if "Not" in rule:
        yes, no = split(rule["Not"], scope)
        return no, yes
    if "And" in rule:
        return _all(rule["And"], scope)
    if "Or" in rule:
        no, yes = _all([{"Not": one} for one in rule["Or"]], scope)
        return yes, no
    return _leaf(rule, scope)


def _all(rules: Any, scope: Scope) -> Sides:
    """In order, so that `IsPresent` guards what follows it. Where one fails nothing more specific is claimed."""
    passing: Value | None = scope.input
    failing = False
    for rule in rules:
        if passing is None:
            break
        passing, rejected = split(rule, scope.with_input(passing))
        failing = failing or rejected is not None
    if len(rules) == 1:
        return split(rules[0], scope)
    return passing, scope.input if failing else None


def _leaf(rule: Mapping[str, Any], scope: Scope) -> Sides:
    variable = rule.get("Variable")
    test = next((name for name in rule if name not in {"Variable", "Next", "Comment", "Assign"}), "")
    if not isinstance(variable, str):
        return scope.input, scope.input
    value = peek(variable, scope)
    if test == "IsPresent":
        sides = _cut(value, lambda kinds: kinds - {"absent"}, lambda kinds: kinds & {"absent"})
        return _placed(sides if rule[test] else sides[::-1], variable, scope)
    if value == ABSENT:
        return None, None
    if test in _KIND_TESTS:
        kind = _KIND_TESTS[test]
        sides = _cut(value, lambda kinds: kinds & {kind}, lambda kinds: kinds - {kind, "absent"})
        return _placed(sides if rule[test] else sides[::-1], variable, scope)
    return _placed(_compared(value, test, rule[test] if test else None), variable, scope)


def _compared(value: Value, test: str, operand: Any) -> Sides:
    there = attrs.evolve(value, kinds=value.kinds - {"absent"})
    kind = next((kind for prefix, kind in _COMPARED.items() if test.startswith(prefix)), None)
    if kind is None or test.endswith("Path"):
        return there, there
    held = attrs.evolve(there, kinds=there.kinds & {kind})
    if test in {"StringEquals", "BooleanEquals"} and there.constant is not None:
        same = kind in there.kinds and there.constant == json_value(operand).constant
        return (there, None) if same else (None, there)
    return (held if held.kinds else None), there


def _cut(value: Value, yes: Any, no: Any) -> Sides:
    sides = tuple(attrs.evolve(value, kinds=cut(value.kinds)) for cut in (yes, no))
    return sides[0] if sides[0].kinds else None, sides[1] if sides[1].kinds else None


def _placed(sides: Sides, variable: str, scope: Scope) -> Sides:
    return _refined(sides[0], variable, scope), _refined(sides[1], variable, scope)


def _refined(value: Value | None, variable: str, scope: Scope) -> Value | None:
    """The document with what was learned put in its place, where that place is plain."""
    steps = parse(variable) if not variable.startswith("$$") else None
    if value is None:
        return None
    if not steps or any(isinstance(step, int) for step in steps):
        return value if steps == () else scope.input
    holder = scope.input
    for step in steps[:-1]:
        holder = get(holder, step)
    if value.kinds == {"absent"} and holder.kinds != {"object"}:
        return scope.input  # which part of the path is missing can't be told
    known = scope.input
    for at in range(len(steps)):  # what holds a value that is there is an object
        known = known if value.kinds == {"absent"} else _an_object(known, steps[:at])
    return put(known, steps, value)


def _an_object(document: Value, path: tuple[Any, ...]) -> Value:
    inner = document
    for step in path:
        inner = get(inner, step)
    if "object" not in inner.kinds or inner.kinds == {"object"}:
        return document
    return put(document, path, attrs.evolve(inner, kinds=frozenset({"object"})))
