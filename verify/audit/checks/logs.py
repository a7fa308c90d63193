"""L: does the mark step's log line say what the table says?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from embedpipe.model import BatchRow
from verify.audit.checks import Moment, found
from verify.audit.checks.executions import Told, eligible_ids
from verify.audit.findings import Finding

__all__ = ["CHECKS", "EVENT", "line_of"]

EVENT: Final = "mark_batches_complete"
"""The name of the line."""
FIGURES: Final = ("extracted", "eligible", "batches_marked")


def line_of(message: str) -> Mapping[str, Any] | None:
    """The mark step's line, whatever the log has put before it; None where it is another.

    >>> line_of('2026-01-01 INFO {"event": "mark_batches_complete", "execution_id": "e", "extracted": 2}')["extracted"]
    2
    """
    start = message.find("{")
    if start < 0 or EVENT not in message:
        return None
    try:
        value = json.loads(message[start:])
    except (ValueError, RecursionError):
        return None
    mine = isinstance(value, dict) and value.get("event") == EVENT and isinstance(value.get("execution_id"), str)
    return value if mine else None


def wrong_line(told: Told, _: Moment) -> Iterator[Finding]:
    """L801: no line though the step has written what it marked, or one that contradicts the table."""
    if told.lines is None or told.marks is None:
        return
    said = [line for each in told.lines if (line := line_of(each.message)) is not None]
    counted = _counted(told)
    if not said:
        yield found("L801", f"logs:{told.execution_id}", *told.quoted, line="absent", table=counted)
    elif not any(_agrees(line, counted) for line in said):
        line = {name: said[-1].get(name) for name in FIGURES}
        yield found("L801", f"logs:{told.execution_id}", *told.quoted, line=line, table=counted)


def _counted(told: Told) -> dict[str, int]:
    """The figures as objects and rows have them; those that nobody can count are left out."""
    figures: dict[str, int] = {}
    if isinstance(told.execution.results, tuple):
        figures |= {"extracted": len(told.quoted), "eligible": len(eligible_ids(told))}
    if told.rows is not None:
        mine = [
            row for row in told.rows.values() if isinstance(row, BatchRow) and row.completed_by == told.execution_id
        ]
        unreadable = [row for row in told.rows.values() if not isinstance(row, BatchRow)]
        figures |= {} if unreadable else {"batches_marked": len(mine)}
    return figures


def _agrees(line: Mapping[str, Any], counted: Mapping[str, int]) -> bool:
    return all(line.get(name) == count for name, count in counted.items())


CHECKS: Final[tuple[Callable[[Told, Moment], Iterator[Finding]], ...]] = (wrong_line,)
