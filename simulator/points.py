"""What has to happen in some run of a sweep: a search that never gets there proves nothing about it.

Each point is a name and a test of one line of the trace, or of one event that the pipeline reports. A sweep counts in how many
runs each was reached; one that never was is a hole in the search, not in the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from embedpipe import events
from simulator.effects import Happened

__all__ = ["AFTERWARDS", "POINTS", "points_of", "step_of"]

AFTERWARDS: Final = ("resubmit-", "settle-")
"""How the names of actors begin that act when faults have stopped."""
LOST_RACE: Final = "precondition_failed"


def step_of(actor: str) -> str:
    """The step that an actor runs: of an invocation the function, of a submitter `submit`, else the walk of an execution.

    >>> step_of("ingest-0/poll[1]/poll#2"), step_of("submit-1#2"), step_of("ingest-0"), step_of("ingest-0/poll[1]")
    ('poll', 'submit', 'execution', 'execution')
    """
    if actor.startswith(("submit-", "resubmit-")):
        return "submit"
    return actor.rsplit("/", 1)[-1].split("#", maxsplit=1)[0] if "#" in actor else "execution"


def _overtaken(ending: str) -> Callable[[Happened], bool]:
    return lambda line: line.outcome == LOST_RACE and line.on.endswith(ending)


def _struck(effect: str, fault: str) -> Callable[[Happened], bool]:
    return lambda line: (line.effect, line.fault) == (effect, fault)


LINES: Final[Mapping[str, Callable[[Happened], bool]]] = MappingProxyType(
    {
        "two submissions raced for the ledger": _overtaken("head.json"),
        "two executions raced for a register": _overtaken("result.json"),
        "two versions raced for the pointer": _overtaken("latest.json"),
        "a listing was delivered twice": _overtaken("batches.json"),
        "chunks were delivered twice": _overtaken("chunks.json"),
        "a row was changed meanwhile": lambda line: (line.effect, line.outcome) == ("table.update", LOST_RACE),
        "a merge found the journal of a dead one": lambda line: (
            line.effect == "objects.get" and line.on.endswith("merging.json") and line.outcome == "ok"
        ),
        "the index was behind": _struck("table.by_status", "lag"),
        "the provider's list was behind": _struck("provider.list", "lag"),
        "a create was paid for and nobody heard": _struck("provider.create", "answer_lost"),
        "an invocation was delivered twice": _struck("lambda.invoke", "duplicate"),
        "an invocation was delivered again, and late": _struck("lambda.invoke", "late_duplicate"),
        "a new release came": lambda line: line.effect == "lambda.update",
        "an execution was aborted": _struck("execution.state", "aborted"),
        "a clock was wrong": _struck("lambda.invoke", "skew"),
        "the key was another project's": _struck("provider.retrieve", "foreign"),
        "a file came damaged": _struck("objects.download", "corrupt"),
        "a merge wrote a part": _struck("collection.upsert", "crash_half"),
        "a retry batch was stored": lambda line: (
            step_of(line.actor) == "mark_complete" and line.effect == "table.put_new" and line.outcome == "ok"
        ),
        "a batch was unknown to the provider": lambda line: (
            (line.effect, line.outcome) == ("provider.retrieve", "not_found")
        ),
        "a file was not there yet": lambda line: (line.effect, line.outcome) == ("provider.content", "not_found"),
    }
)
"""Name -> whether a line of the trace is it."""
TELLING: Final = frozenset({"objects.get", "table.put_new", "lambda.update"})
"""The effects of which a line can be a point though nothing struck it and it went well."""

EVENTS: Final[Mapping[str, Callable[[events.RunEvent], bool]]] = MappingProxyType(
    {
        "a create was ambiguous": lambda event: isinstance(event, events.AmbiguousCreate) and not event.lost,
        "a create was given up as lost": lambda event: isinstance(event, events.AmbiguousCreate) and event.lost,
        "a create was found by a search": lambda event: isinstance(event, events.BatchCreated) and event.found,
        "a create was refused": lambda event: isinstance(event, events.CreateRefused),
        "a batch was given up as lost": lambda event: isinstance(event, events.BatchLost),
        "a result was unreadable": lambda event: isinstance(event, events.ResultUnreadable),
        "a delta was left out": lambda event: isinstance(event, events.DeltaLeftOut),
        "a record was rejected": lambda event: isinstance(event, events.BatchPolled) and event.rejected > 0,
        "a batch gave some vectors and a retry": lambda event: (
            isinstance(event, events.BatchPolled) and event.vectors > 0 and event.retry > 0
        ),
        "an ended batch gave no vector": lambda event: (
            isinstance(event, events.BatchPolled) and event.action == "handle_failure"
        ),
        "a version was published": lambda event: isinstance(event, events.Published),
    }
)
"""Name -> whether an event is it."""

POINTS: Final = (*LINES, *EVENTS)


def points_of(trace: Iterable[Happened], reported: Iterable[events.RunEvent]) -> frozenset[str]:
    """What a run came to."""
    said = list(reported)
    lines = [line for line in trace if line.fault or line.outcome != "ok" or line.effect in TELLING]
    return frozenset(
        [name for name, test in LINES.items() if any(map(test, lines))]
        + [name for name, test in EVENTS.items() if any(map(test, said))]
    )
