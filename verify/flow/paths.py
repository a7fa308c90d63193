"""Paths, templates and intrinsic functions over abstract values.

An evaluation gives a value and the references that it followed; a reference whose value is certainly absent fails at run time.
A path that is more than names and indexes (`[*]`, filters, `..`) is answered "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from verify.flow.values import (
    ABSENT,
    Name,
    Value,
    array,
    get,
    join,
    json_value,
    of_kind,
    record,
    unknown,
)

__all__ = ["Scope", "evaluate", "parse", "template"]

_STEP: Final = re.compile(r"\.([^.\[\]*?()\s]+)|\['((?:[^'\\]|\\.)*)'\]|\[(\d+)\]")
_CALL: Final = re.compile(r"States\.(\w+)\s*\(")
NULLED: Final = record({})
"""What a `null` path means."""


@attrs.frozen(kw_only=True)
class Scope:
    """What paths are relative to."""

    input: Value
    context: Value

    def with_input(self, value: Value) -> Scope:
        """The same context, another input."""
        return attrs.evolve(self, input=value)


@attrs.define
class Trouble:
    """References that can't be followed: the text of each."""

    absent: list[str] = attrs.field(factory=list)


def parse(path: str) -> tuple[Name, ...] | None:
    """Names and indexes of a plain path; None where it is anything else.

    >>> parse("$.a['b c'][0]"), parse("$"), parse("$.a[*]")
    (('a', 'b c', 0), (), None)
    """
    text = path.removeprefix("$")
    steps: list[Name] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            return None
        plain, quoted, index = found.groups()
        steps.append(int(index) if index is not None else plain if plain is not None else quoted.replace("\\'", "'"))
        at = found.end()
    return tuple(steps)


def evaluate(path: str, scope: Scope, trouble: Trouble) -> Value:
    """The value at a path; notes the path in `trouble` where there is certainly none."""
    found = peek(path, scope)
    if found == ABSENT:
        trouble.absent.append(path)
    return found


def peek(path: str, scope: Scope) -> Value:
    """The value at a path, absent or not."""
    in_context = path.startswith("$$")
    steps = parse(path[1:] if in_context else path)
    if steps is None or not path.startswith("$"):
        return unknown(path, absent=True)
    value = scope.context if in_context else scope.input
    for step in steps:
        value = get(value, step)
    return value


def chosen(path: Any, scope: Scope, trouble: Trouble) -> Value:
    """InputPath, OutputPath: `null` is an empty object."""
    return NULLED if path is None else present(evaluate(str(path), scope, trouble))


def present(value: Value) -> Value:
    """The value given that there is one: where there is none the state has failed."""
    return attrs.evolve(value, kinds=value.kinds - {"absent"}) if value != ABSENT else unknown()


def template(body: Any, scope: Scope, trouble: Trouble) -> Value:
    """Parameters, ItemSelector, ResultSelector: names that end in `.$` are paths or intrinsic functions."""
    if isinstance(body, list):
        elements = [template(item, scope, trouble) for item in body]
        return attrs.evolve(array(elements=elements, items_max=len(elements)), others=False)
    if not isinstance(body, Mapping):
        return json_value(body)
    fields = {}
    for name, value in body.items():
        if name.endswith(".$") and isinstance(value, str):
            fields[name[:-2]] = expression(value, scope, trouble)
        else:
            fields[name] = template(value, scope, trouble)
    return record(fields)


def expression(text: str, scope: Scope, trouble: Trouble) -> Value:
    """A path, or an intrinsic function over paths."""
    if text.startswith("$"):
        return present(evaluate(text, scope, trouble))
    call = _CALL.match(text)
    if call is None or not text.rstrip().endswith(")"):
        return unknown(text)
    inner = text.rstrip()[call.end() : -1]
    arguments = [_argument(part, scope, trouble) for part in split_arguments(inner)]
    return _call(call.group(1), arguments, text)


def _argument(text: str, scope: Scope, trouble: Trouble) -> Value:
    if text.startswith("'"):
        return json_value(text[1:-1]) if "\\" not in text else of_kind("string")
    if text.startswith(("$", "States.")):
        return expression(text, scope, trouble)
    return {"null": json_value(None), "true": json_value(True), "false": json_value(False)}.get(text, _number(text))


def _number(text: str) -> Value:
    return json_value(int(text)) if re.fullmatch(r"-?\d{1,9}", text) else of_kind("number")


def split_arguments(text: str) -> list[str]:
    """The arguments of a call, at its outermost commas.

    >>> split_arguments("'a, b', States.Array($.x, 1)")
    ["'a, b'", 'States.Array($.x, 1)']
    """
    parts, depth, quoted, start, at = [], 0, False, 0, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "'":
            quoted = not quoted
        elif not quoted:
            depth += (char in "([") - (char in ")]")
            if char == "," and depth == 0:
                parts.append(text[start:at].strip())
                start = at + 1
        at += 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


_GIVES: Final = {
    "Format": "string", "JsonToString": "string", "Base64Encode": "string", "Base64Decode": "string", "Hash": "string",
    "UUID": "string", "ArrayContains": "boolean", "ArrayLength": "number", "MathRandom": "number", "MathAdd": "number",
    "ArrayRange": "array", "ArrayUnique": "array", "ArrayPartition": "array", "StringSplit": "array",
}  # fmt: skip
"""Intrinsic function -> the kind of its answer."""


def _call(name: str, arguments: list[Value], text: str) -> Value:
    if name == "Array":
        return attrs.evolve(array(elements=arguments, items_max=len(arguments)), others=False)
    if name == "JsonMerge" and len(arguments) >= 2:
        return _merged(arguments[0], arguments[1])
    if name == "ArrayGetItem" and len(arguments) == 2:
        index = arguments[1].constant
        return present(get(arguments[0], int(index))) if index and index.isdigit() else unknown(text)
    kind = _GIVES.get(name)
    return unknown(text) if kind is None else of_kind(kind)


def _merged(left: Value, right: Value) -> Value:
    """Shallow: a field of the second wins."""
    names = {name for name, _ in (*left.fields, *right.fields) if isinstance(name, str)}
    fields = {}
    for name in names:
        second = get(attrs.evolve(right, kinds=frozenset({"object"})), name)
        first = get(attrs.evolve(left, kinds=frozenset({"object"})), name)
        fields[name] = join(first, present(second)) if "absent" in second.kinds and second != ABSENT else second
        if second == ABSENT:
            fields[name] = first
    return record(fields, others=left.others or right.others, origin=left.origin or right.origin)
