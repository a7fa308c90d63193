"""What an event of a trace is on the page: its number, its kind, and the shape of that, so that colour alone says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from simulator.effects import Happened

__all__ = ["Kind", "Mark", "legend", "marks_of", "shape"]


class Kind(StrEnum):
    """Those that matter more are drawn later, over the others."""

    QUIET = "quiet"
    FAILED = "failed"
    LED = "led"
    FAULT = "fault"


MEANING: Final = {
    Kind.FAULT: "a fault struck it",
    Kind.LED: "led to what is broken",
    Kind.FAILED: "answered with an error",
    Kind.QUIET: "everything else",
}
RADIUS: Final = {Kind.QUIET: 2.5, Kind.FAILED: 3.5, Kind.LED: 4.5, Kind.FAULT: 4.5}


class Mark(NamedTuple):
    """An event as the page shows it."""

    number: int
    """From 1, in the whole trace."""
    event: Happened
    kind: Kind


def marks_of(trace: Sequence[Happened], chain: Collection[int]) -> list[Mark]:
    """One for each event. `chain`: positions of those that led to what is broken.

    >>> one = Happened(1, "a", "objects.get", 1, "k", "", "not_found")
    >>> [str(mark.kind) for mark in marks_of([one, one._replace(fault="slow"), one], [2])]
    ['failed', 'fault', 'led']
    """
    led = frozenset(chain)
    return [Mark(at + 1, event, _kind(event, led=at in led)) for at, event in enumerate(trace)]


def _kind(event: Happened, *, led: bool) -> Kind:
    if event.fault:
        return Kind.FAULT
    if led:
        return Kind.LED
    return Kind.QUIET if event.outcome == "ok" else Kind.FAILED


def shape(kind: Kind, x: int, y: int, name: str = "") -> str:
    """A square for a fault, a disc or ring for the others. `name`: an id of the page's own making."""
    named, radius = f' id="{name}"' if name else "", RADIUS[kind]
    if kind is Kind.FAULT:
        side = 2 * radius
        return f'<rect{named} class="{kind}" x="{x - radius}" y="{y - radius}" width="{side}" height="{side}"/>'
    return f'<circle{named} class="{kind}" cx="{x}" cy="{y}" r="{radius}"/>'


def legend(marks: Sequence[Mark]) -> str:
    """Each kind that is there: its shape, what it means, and how many there are."""
    counts = Counter(mark.kind for mark in marks)
    entries = "".join(
        f'<li><svg width="12" height="12" aria-hidden="true">{shape(kind, 6, 6)}</svg>{said}: {counts[kind]:,}</li>'
        for kind, said in MEANING.items()
        if counts[kind]
    )
    return f'<ul class="legend">{entries}</ul>'
