"""What is known of a JSON value without running anything: an abstract domain, its join and its widening.

The rule: a value stands for a *set* of JSON values (or for "there is none"), and every operation answers with a set that
holds all real results. What is not known is wide, never guessed. It knows nothing of states and machines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

__all__ = [
    "ABSENT",
    "NULL",
    "Value",
    "array",
    "get",
    "join",
    "json_value",
    "of_kind",
    "put",
    "record",
    "unknown",
    "widen",
]

NONE: Final = "absent"
KINDS: Final = frozenset({"null", "boolean", "number", "string", "array", "object"})
Name = str | int
"""Of a field, or the index of an element."""

DEPTH_MAX: Final = 6
"""[ours] Levels that a widened value keeps, so that a loop which nests its state ends."""


@attrs.frozen(kw_only=True)
class Value:
    """A set of JSON values."""

    kinds: frozenset[str]
    """Of `KINDS`, and `absent` where there may be no value at all."""
    fields: tuple[tuple[Name, Value], ...] = ()
    """What is known of an object's fields and of an array's elements, sorted by name."""
    others: bool = False
    """Whether there may be fields or elements that `fields` does not name."""
    items: Value | None = None
    """Of each element that `fields` does not name; None: anything."""
    items_max: int | None = None
    constant: str | None = None
    """JSON of a scalar that is known."""
    chars_min: int = 0
    """Of a string: it has at least so many."""
    origin: str = ""
    """The state whose output decides, where `kinds` does not say."""

    @property
    def certain(self) -> bool:
        """There is a value, and it is not null."""
        return not self.kinds & {NONE, "null"}


ABSENT: Final = Value(kinds=frozenset({NONE}))
NULL: Final = Value(kinds=frozenset({"null"}), constant="null")


def unknown(origin: str = "", *, absent: bool = False) -> Value:
    """Any JSON value; with `absent` also none."""
    return Value(kinds=KINDS | {NONE} if absent else KINDS, others=True, origin=origin)


def of_kind(*kinds: str, chars_min: int = 0) -> Value:
    """Any value of these kinds."""
    return Value(kinds=frozenset(kinds), others=bool({"object", "array"} & set(kinds)), chars_min=chars_min)


def record(fields: Mapping[Any, Value], *, others: bool = False, origin: str = "") -> Value:
    """An object with these fields."""
    return Value(kinds=frozenset({"object"}), fields=_sorted(fields), others=others, origin=origin)


def array(items: Value | None = None, *, elements: Iterable[Value] = (), items_max: int | None = None) -> Value:
    """An array: `elements` are exactly its elements, `items` is what any number of them are."""
    known = dict(enumerate(elements))
    others = items is not None or not known
    return Value(kinds=frozenset({"array"}), fields=_sorted(known), others=others, items=items, items_max=items_max)


def json_value(document: Any) -> Value:
    """What is known of a literal: everything.

    >>> get(json_value({"a": None}), "a") == NULL
    True
    """
    if isinstance(document, Mapping):
        return record({name: json_value(value) for name, value in document.items()})
    if isinstance(document, list | tuple):
        made = array(elements=[json_value(value) for value in document], items_max=len(document))
        return attrs.evolve(made, others=False)
    kind = "null" if document is None else {bool: "boolean", str: "string"}.get(type(document), "number")
    size = len(document) if isinstance(document, str) else 0
    return Value(kinds=frozenset({kind}), constant=json.dumps(document), chars_min=size)


def get(value: Value, name: Name) -> Value:
    """A field or an element; absent where the value has none.

    >>> get(record({"a": NULL}), "b") == ABSENT
    True
    """
    holder = "array" if isinstance(name, int) else "object"
    if holder not in value.kinds:
        return ABSENT
    found = dict(value.fields).get(name) if value.fields else None
    if found is None:
        found = _other(value, holder) if value.others else ABSENT
    return found if value.kinds == {holder} else join(found, ABSENT)


def _other(value: Value, holder: str) -> Value:
    if holder == "array" and value.items is not None:
        return join(value.items, ABSENT)
    return unknown(value.origin, absent=True)


def put(value: Value, path: tuple[Name, ...], new: Value) -> Value:
    """The value with another one at a path; objects on the way are made.

    >>> get(put(NULL, ("a",), NULL), "a") == NULL
    True
    """
    if not path:
        return new
    inner = put(get(value, path[0]), path[1:], new)
    known = {name: found for name, found in value.fields if isinstance(name, str)} if "object" in value.kinds else {}
    if value.kinds - {"object", NONE}:  # an engine may refuse this, or begin a new object
        known = {name: join(found, unknown(value.origin, absent=True)) for name, found in known.items()}
    elif NONE in value.kinds:
        known = {name: join(found, ABSENT) for name, found in known.items()}
    others = value.others or bool(value.kinds - {"object", NONE})
    return record(known | {path[0]: inner}, others=others, origin=value.origin)


def join(left: Value, right: Value) -> Value:
    """What is one or the other."""
    if left == right:
        return left
    names = dict.fromkeys(name for name, _ in (*left.fields, *right.fields))
    fields = {name: found for name in names if (found := _either(left, right, name)) is not None}
    return Value(
        kinds=left.kinds | right.kinds,
        fields=_sorted(fields),
        others=left.others or right.others,
        items=_items(left, right),
        items_max=_most(left, right),
        constant=left.constant if left.constant == right.constant else None,
        chars_min=_least(left, right),
        origin=left.origin or right.origin,
    )


def _either(left: Value, right: Value, name: Name) -> Value | None:
    holder = "array" if isinstance(name, int) else "object"
    sides = [get(attrs.evolve(side, kinds=frozenset({holder})), name) for side in (left, right) if holder in side.kinds]
    return sides[0] if len(sides) == 1 else join(*sides)


def _items(left: Value, right: Value) -> Value | None:
    sides = [side for side in (left, right) if "array" in side.kinds and side.others]
    if not sides or any(side.items is None for side in sides):
        return None
    first, *rest = (side.items for side in sides if side.items is not None)
    return join(first, rest[0]) if rest else first


def _most(left: Value, right: Value) -> int | None:
    sides = [side.items_max for side in (left, right) if "array" in side.kinds]
    return None if None in sides else max((side for side in sides if side is not None), default=None)


def _least(left: Value, right: Value) -> int:
    return min((side.chars_min for side in (left, right) if "string" in side.kinds), default=0)


def widen(value: Value, depth: int = DEPTH_MAX) -> Value:
    """A coarser value, of which there are finitely many: no constants, no sizes, no deep levels."""
    if depth == 0:
        return unknown(value.origin, absent=NONE in value.kinds)
    return attrs.evolve(
        value,
        fields=tuple((name, widen(found, depth - 1)) for name, found in value.fields),
        items=None if value.items is None else widen(value.items, depth - 1),
        items_max=None,
        constant=None,
        chars_min=0,
    )


def size_min_bytes(value: Value) -> int:
    """The least that its JSON can measure.

    >>> size_min_bytes(json_value({"id": "abc"}))
    12
    """
    sizes = {"null": 4, "boolean": 4, "number": 1, "string": 2 + value.chars_min, "object": 2, "array": 2, NONE: 0}
    fields = [(name, found) for name, found in value.fields if NONE not in found.kinds and isinstance(name, str)]
    sizes["object"] += sum(len(name) + 3 + size_min_bytes(found) for name, found in fields) + max(0, len(fields) - 1)
    return min((sizes[kind] for kind in value.kinds), default=0)


def _sorted(fields: Mapping[Any, Value]) -> tuple[tuple[Name, Value], ...]:
    return tuple(sorted(fields.items(), key=lambda pair: (isinstance(pair[0], int), pair[0])))
