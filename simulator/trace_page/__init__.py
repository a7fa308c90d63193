"""The trace of a run as one HTML file: what led to its end, a lane for each actor and service, and a line for each event."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from simulator.runs import Outcome, Verdict
from simulator.trace_page.chain import chain_of
from simulator.trace_page.events import table
from simulator.trace_page.lanes import drawn
from simulator.trace_page.marks import Mark, legend, marks_of
from verify.formats.page.frame import framed
from verify.formats.page.markup import code, number, shown

__all__ = ["render"]

SAID: Final = {
    Verdict.HELD: "Every guarantee held",
    Verdict.SAFETY: "A guarantee was broken",
    Verdict.LIVENESS: "Something never came to its end",
    Verdict.CRASH: "The code failed in a way that it has no name for",
    Verdict.NONDETERMINISM: "The run was not the same twice",
}
EVENTS_MAX: Final = 3_000
"""[ours] The last so many are drawn and listed; bounds the page."""
LINE_CHARS: Final = 200
"""[ours] Of what does not hold; a longer line is folded behind its beginning."""


def render(outcome: Outcome, *, scenario: str) -> str:
    """The whole page. It asks no network and has no script; ids, keys and texts of the run are never more than text."""
    style = files("simulator.trace_page").joinpath("trace.css").read_text("utf-8")
    chain = chain_of(outcome.trace, outcome.broken)
    marks = marks_of(outcome.trace, chain)
    latest = marks[-EVENTS_MAX:]
    body = (
        f"{_head(outcome, scenario, len(chain))}\n<main>\n{_broken(outcome.broken)}"
        f"{_chain([marks[at] for at in chain], len(marks) - len(latest))}{_lanes(latest)}{_events(latest)}</main>"
    )
    return framed(body, title=f"{outcome.verdict}: seed {outcome.seed}", style=style)


def _head(outcome: Outcome, scenario: str, led: int) -> str:
    hours = outcome.virtual_s / 3_600
    return (
        f'<header class="{outcome.verdict}"><p class="verdict">{outcome.verdict}</p><h1>{SAID[outcome.verdict]}</h1>'
        f"<p>Scenario {code(scenario)}, seed {outcome.seed}: {number(outcome.effects, 'effect')}, "
        f"{number(len(outcome.strikes), 'fault')}, {hours:,.1f} hours of virtual time.</p>"
        f"{_places(broken=bool(outcome.broken), led=led)}</header>"
    )


def _places(*, broken: bool, led: int) -> str:
    names = [
        ("broken", "What does not hold", broken),
        ("chain", f"What led to it: {number(led, 'event')}", led > 0),
        ("lanes", "Lanes", True),
        ("events", "All events", True),
    ]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, there in names if there)
    return f'<nav aria-label="Sections">{links}</nav>'


def _broken(broken: Sequence[str]) -> str:
    if not broken:
        return ""
    lines = "".join(f"<li>{_folded(line)}</li>" for line in broken)
    return f'<section id="broken"><h2>What does not hold</h2><ul>{lines}</ul></section>\n'


def _folded(line: str) -> str:
    """All of it, the end of a long one behind its beginning.

    >>> _folded("G4: still CREATING"), "<summary>" in _folded("evidence " * 99)
    ('G4: still CREATING', True)
    """
    if len(line) <= LINE_CHARS:
        return shown(line)
    cut = max(line.rfind(" ", 0, LINE_CHARS), LINE_CHARS // 2)
    return f"<details><summary>{shown(line[:cut])} …</summary><p>{shown(line[cut:])}</p></details>"


def _chain(led: Sequence[Mark], left_out: int) -> str:
    """The events about what the broken guarantees name, and each fault."""
    if not led:
        return ""
    return (
        '<section id="chain"><h2>What led to it</h2><p>Changes to what is named above, each fault, and what those whom a '
        "fault struck had changed before. A number leads to its event among the lanes.</p>"
        f"{table(led, drawn_from=left_out + 1, whole=False)}</section>\n"
    )


def _lanes(latest: Sequence[Mark]) -> str:
    return (
        '<section id="lanes"><h2>Lanes</h2><p>Services are above, those who called them below. Events stand in their order, '
        "not at their times. A mark leads to its event in the list of all.</p>"
        f"{legend(latest)}{drawn(latest)}</section>\n"
    )


def _events(latest: Sequence[Mark]) -> str:
    first = latest[0].number if latest else 1
    left_out = f" The first {number(first - 1, 'event')} are left out." if first > 1 else ""
    return (
        f'<section id="events"><h2>All events</h2><p>A number leads to its event among the lanes.{left_out}</p>'
        f"{table(latest, drawn_from=first, whole=True)}</section>\n"
    )
