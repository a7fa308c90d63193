"""By which of its fields a state keeps something from the next one: words for people. Pure; it judges no path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from verify.flow.shape import nested
from verify.flow.walk import Arrival

__all__ = ["leaves_payload", "reason"]

NO_RESULT: Final = frozenset({"Choice", "Wait", "Succeed"})
"""Types whose output is their input."""


def leaves_payload(state: Mapping[str, Any]) -> bool:
    """Whether the whole answer of `lambda:invoke` becomes the state, and not its Payload."""
    takes_out = {"OutputPath", "ResultSelector", "Output"} & state.keys() or state.get("ResultPath", "$") != "$"
    return state["Type"] == "Task" and "lambda:invoke" in str(state.get("Resource")) and not takes_out


def reason(state: Mapping[str, Any], after: Arrival) -> str:
    """Why what `state` was given did not get to `after`, in words of the language."""
    if after.label == "Catch":
        return "its Catch has no ResultPath, so the error replaces the state"
    if any(after.state in machine["States"] for machine in nested(state)):
        return _given_inside(state)
    if "OutputPath" in state:
        return f"OutputPath keeps {state['OutputPath'] or 'nothing (null)'} only"
    path = state.get("ResultPath", "$") if state["Type"] not in NO_RESULT else "$"
    if path == "$":
        return f"{_whole(state)} without ResultPath replaces the whole state" if _whole(state) else _narrowed(state)
    return f"ResultPath {path} is written over it"


def _whole(state: Mapping[str, Any]) -> str:
    """What becomes the whole state; empty where that is a part of the input."""
    if "Output" in state or state["Type"] in NO_RESULT:
        return ""
    if state["Type"] != "Pass" or "Result" in state:
        return "its result"
    return "Parameters" if "Parameters" in state else ""


def _narrowed(state: Mapping[str, Any]) -> str:
    if "Output" in state:
        return "its Output does not have it"
    return f"InputPath keeps {state.get('InputPath') or 'nothing (null)'} only"


def _given_inside(state: Mapping[str, Any]) -> str:
    """Why what is in a Map or a Parallel is not given the field."""
    if state["Type"] == "Map":
        selector = next((name for name in ("ItemSelector", "Parameters") if name in state), "")
        return f"{selector} does not pass it on" if selector else "each iteration is given its item only"
    given = "Parameters does not pass it on" if "Parameters" in state else _narrowed(state)
    return f"its branches are given a part of its input: {given}"
