"""Why a line of input was refused, and how to put it right. Slow and thorough: it runs once, at the end of a reading."""

from __future__ import annotations

import difflib
import json
from typing import Any, Final

import msgspec

from embedpipe.errors import InvalidInput

__all__ = ["explained"]

_USUAL_NAMES: Final = {
    "id": ("_id", "key", "uuid", "name", "custom_id"),
    "text": ("content", "body", "document", "input", "value"),
}

_decode_any: Final = msgspec.json.Decoder().decode


def _not_utf8(error: UnicodeDecodeError, shown: str, number: int) -> InvalidInput:
    return InvalidInput(
        f"{shown}:{number}: byte {error.start + 1} of the line is not UTF-8.",
        hint="Name the file's encoding, such as --encoding latin-1.",
    )


def explained(line: bytes, shown: str, number: int) -> InvalidInput:
    """Why a line was refused. Slow and thorough: it runs once."""
    where = f"{shown}:{number}"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return _not_utf8(error, shown, number)
    try:
        value = _decode_any(line)
    except (msgspec.DecodeError, RecursionError) as error:
        if _has_lone_surrogate(line):
            return InvalidInput(
                f"{where}: has one half of a surrogate pair, such as \\ud800, which is no character.",
                hint="Write both halves, or leave it out.",
            )
        return InvalidInput(
            f"{where}: is not JSON: {error}.", hint="Each line is one object; for plain text use --format text."
        )
    if isinstance(value, list):
        return InvalidInput(f"{where}: is a JSON array.", hint="Turn it into lines: jq -c '.[]'")
    if not isinstance(value, dict):
        return InvalidInput(
            f"{where}: is {_type_name(value)}, not an object.",
            hint="Give it an 'id' and a 'text', or use --format text.",
        )
    return _bad_field(value, where)


def _has_lone_surrogate(line: bytes) -> bool:
    """Whether it would be JSON if half a character were one. The standard library thinks so, and our decoder doesn't."""
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def _bad_field(value: dict[str, Any], where: str) -> InvalidInput:
    for name in ("id", "text"):
        if name not in value:
            return InvalidInput(f"{where}: has no '{name}'.", hint=_rename_hint(name, value))
        if value[name] == "":
            return InvalidInput(f"{where}: '{name}' is empty.", hint="Fill it, or leave the record out.")
    if not isinstance(value["id"], str | int) or isinstance(value["id"], bool):
        return InvalidInput(f"{where}: 'id' is {_type_name(value['id'])}.", hint='Write it as a string, such as "42".')
    if not isinstance(value["text"], str):
        return InvalidInput(f"{where}: 'text' is {_type_name(value['text'])}, not a string.")
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return InvalidInput(f"{where}: 'metadata' is {_type_name(metadata)}, not an object.")
    wrong = next((name for name, item in metadata.items() if not isinstance(item, str | int | float)), "")
    return InvalidInput(
        f"{where}: metadata {ascii(wrong)[:60]} is {_type_name(metadata.get(wrong))}.",
        hint="Values are strings, numbers or booleans: flatten nested ones and leave out nulls.",
    )


def _rename_hint(name: str, value: dict[str, Any]) -> str:
    close = [other for other in _USUAL_NAMES[name] if other in value] or difflib.get_close_matches(name, value, 1, 0.7)
    if close:
        return (
            f"Rename '{close[0]}': jq -c '.{name} = .{close[0]}'" if close[0].isidentifier() else f"Is it '{close[0]}'?"
        )
    found = ", ".join(ascii(key)[:40] for key in list(value)[:5])
    return f"It has only {found}." if found else "The object is empty."


def _type_name(value: object) -> str:
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)
