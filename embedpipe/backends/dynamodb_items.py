"""Items between Python's values and DynamoDB's typed ones.

The rule: what is read and written back is what it was; a number without a fraction is an `int`, any other a `Decimal`, so
that no digit is lost. Knows neither rows nor tables.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypedDict

import msgspec

from embedpipe.errors import CorruptData

__all__ = ["decode_item", "decode_value", "encode_item", "encode_value", "take_items"]

_Typed = dict[str, dict[str, Any]]


class _Answer(TypedDict, total=False):
    """What the operations that give items answer."""

    Items: list[_Typed]
    Count: int
    ScannedCount: int
    LastEvaluatedKey: _Typed
    Responses: dict[str, list[_Typed]]
    UnprocessedKeys: dict[str, dict[str, Any]]
    Attributes: _Typed


_read: Final = msgspec.json.Decoder(_Answer).decode
_WHOLE: Final = re.compile(r"-?\d{1,40}", re.ASCII)


def encode_item(item: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Each attribute with its type.

    >>> encode_item({"a": "x", "n": 1, "l": [True, None]})
    {'a': {'S': 'x'}, 'n': {'N': '1'}, 'l': {'L': [{'BOOL': True}, {'NULL': True}]}}
    """
    return {name: encode_value(value) for name, value in item.items()}


def encode_value(value: object) -> dict[str, Any]:  # noqa: PLR0911  one return a type
    """One value with its type."""
    if type(value) is str:  # most are
        return {"S": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float | Decimal):
        return {"N": str(value)}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, Mapping):
        return {"M": {str(name): encode_value(each) for name, each in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [encode_value(each) for each in value]}
    if isinstance(value, frozenset | set) and value:
        return _encode_set(value)
    raise TypeError(f"a table cannot hold {type(value).__name__}")


def _encode_set(values: frozenset[Any] | set[Any]) -> dict[str, Any]:
    encoded = [encode_value(value) for value in values]
    kinds = {kind for each in encoded for kind in each}
    if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
        raise TypeError("a set of a table holds texts, numbers or bytes, of one kind")
    (kind,) = kinds
    return {f"{kind}S": sorted(each[kind] for each in encoded)}


def take_items(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Hook of the SDK's `before-parse`: takes an answer as it stands on the wire.

    DynamoDB's JSON has its items in the very form that the SDK gives them, but for bytes; walking the SDK's model of it is
    most of the CPU time of a read. What is of another shape is left to the SDK, errors too.
    """
    if response_dict["status_code"] >= 300:
        return
    try:
        answer = _read(response_dict["body"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    customized_response_dict.update(answer)
    response_dict["body"] = b"{}"


def decode_item(item: Mapping[str, Mapping[str, Any]]) -> dict[str, object]:
    """Inverse of `encode_item`."""
    # Most values are texts: not calling anything for them halves the time of a row.
    return {name: value["S"] if "S" in value else decode_value(value) for name, value in item.items()}


def decode_value(typed: Mapping[str, Any]) -> object:
    """Inverse of `encode_value`. `CorruptData` where it is no value of a type known here.

    >>> decode_value({"N": "7"}), decode_value({"N": "1.50"}), decode_value({"NS": ["1"]})
    (7, Decimal('1.50'), frozenset({1}))
    """
    try:
        ((kind, value),) = typed.items()
        return _decoded(kind, value)
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        raise CorruptData(f"A table item has a value that is none: {ascii(typed)[:80]}.") from None


def _decoded(kind: str, value: Any) -> object:  # noqa: PLR0911  one return a type
    match kind:
        case "N":
            return _number(value)
        case "S" | "BOOL":
            return value
        case "NULL":
            return None
        case "L":
            return [decode_value(each) for each in value]
        case "M":
            return decode_item(value)
        case "B":
            return _bytes(value)
        case "SS":
            return frozenset(value)
        case "NS":
            return frozenset(map(_number, value))
        case "BS":
            return frozenset(map(_bytes, value))
    raise CorruptData(f"A table item has a value of type {ascii(kind)[:20]}, which this version does not know.")


def _bytes(value: str | bytes) -> bytes:
    """As the SDK gives it, or in base64, as the wire does."""
    return base64.b64decode(value, validate=True) if isinstance(value, str) else bytes(value)


def _number(text: str) -> int | Decimal:
    if len(text) < 10 and text.isascii() and text.isdecimal():  # quicker, and most are
        return int(text)
    return int(text) if _WHOLE.fullmatch(text) else Decimal(text)
