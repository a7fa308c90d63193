"""What went in and out of the states of an execution: JSON of any shape, read without a guess. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from verify.audit.ports import Event

__all__ = ["parsed", "payloads", "returned_error", "unwrapped", "values_of"]


def payloads(event: Event) -> Iterator[str]:
    """What went in or out, as JSON. The API gives all of it."""
    for name, details in event.items():
        if not (name.endswith("EventDetails") and isinstance(details, Mapping)):
            continue
        for field in ("input", "output", "parameters"):
            if isinstance(details.get(field), str):
                yield details[field]


def parsed(text: str) -> Any:
    """A payload; None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def values_of(value: Any, field: str) -> list[Any]:
    """Every value of that field, at any depth.

    >>> values_of({"a": {"k": 1}, "b": [{"k": None}], "k": 2}, "k")
    [2, 1, None]
    """
    found: list[Any] = []
    waiting = [value]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, Mapping):
            if field in one:
                found.append(one[field])
            waiting += [inner for name, inner in one.items() if name != field]
        elif isinstance(one, list):
            waiting += one[:100]  # items of a Map name no value of the state
    return found


def returned_error(value: Any) -> str:
    """What a handler says has gone wrong, where it returned that as its result; else nothing.

    >>> returned_error({"statusCode": 500, "body": "no"}), returned_error({"batch_id": "b"})
    ('statusCode 500: no', '')
    """
    if not isinstance(value, Mapping):
        return ""
    code = value.get("statusCode")
    if isinstance(code, int) and code >= 400:
        return f"statusCode {code}: {str(value.get('body', ''))[:200]}".rstrip(": ")
    for name in ("errorType", "errorMessage", "error"):
        if value.get(name):
            return f"{name}: {str(value[name])[:200]}"
    return "success: false" if value.get("success") is False else ""


def unwrapped(output: Any) -> Any:
    """A handler's own output, without what the `lambda:invoke` integration wraps it in."""
    if isinstance(output, Mapping) and "Payload" in output and "StatusCode" in output:
        payload = output["Payload"]
        return parsed(payload) if isinstance(payload, str) else payload
    return output
