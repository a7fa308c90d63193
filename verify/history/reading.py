"""The events of one execution: from a file as `aws stepfunctions get-execution-history` prints it, or from the engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from embedpipe.backends.system import SystemClock
from embedpipe.errors import Incomplete, NotFound
from verify.audit.calls import Calls
from verify.audit.findings import WrongQuestion
from verify.audit.ports import HISTORY_KEPT_DAYS, Event, PagedHistories

__all__ = ["of_execution", "of_file"]

EXECUTION_FORM: Final = "arn:aws:states:REGION:ACCOUNT:execution:MACHINE:NAME"
_EXECUTION: Final = re.compile(r"arn:[^:]+:states:[^:]+:[^:]*:(execution:[^:]+:[^:]+|express:[^:]+:[^:]+:[^:]+)")


def of_file(path: Path) -> list[Event]:
    """`{"events": [...]}`, or several of them one after another, or the bare array. `WrongQuestion`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WrongQuestion(f"{path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise WrongQuestion(
            f"{path} is no text.", hint="Give what `aws stepfunctions get-execution-history` prints."
        ) from None
    events: list[Event] = []
    try:
        for document in _documents(text):
            events += document["events"] if isinstance(document, dict) else document
    except (ValueError, KeyError, TypeError, RecursionError):
        events = []
    if not events or not all(isinstance(event, dict) and isinstance(event.get("id"), int) for event in events):
        raise WrongQuestion(
            f"{path} is no history of an execution.",
            hint="Give what `aws stepfunctions get-execution-history` prints, as JSON.",
        )
    return sorted(events, key=lambda event: int(event["id"]))


def _documents(text: str) -> Iterator[Any]:
    """JSON documents one after another: pages that were printed into one file."""
    decoder = json.JSONDecoder()
    at = 0
    while rest := text[at:].lstrip():
        document, length = decoder.raw_decode(rest)
        at = len(text) - len(rest) + length
        yield document


def of_execution(arn: str, *, region: str | None, endpoint_url: str | None) -> Iterator[Event]:
    """All events, a page at a time. `Incomplete` where no history is kept, `Unauthorized`, `ConfigError`."""
    from verify.sources.aws import StepFunctionsHistories

    if not _EXECUTION.fullmatch(arn):
        raise WrongQuestion(f"{arn[:100]!a} is no ARN of an execution.", hint=f"It reads {EXECUTION_FORM}.")
    if ":express:" in arn:
        raise Incomplete("An EXPRESS machine keeps no history of its executions.", hint="Look into its log group.")

    states = StepFunctionsHistories(region=region or "", endpoint_url=endpoint_url or "")
    try:
        yield from PagedHistories(states, Calls(clock=SystemClock())).events(arn)
    except NotFound as error:
        raise Incomplete(error.message, hint=f"A history is kept for {HISTORY_KEPT_DAYS} days.") from None
    finally:
        states.close()
