"""The lanes of a trace: services above, actors below, and in a column of its own each event, where its actor meets its service.

Events stand in their order and not at their times: a run waits for hours and then does forty things in a second. Names, times
and services stay in view while the rest is scrolled, by the style alone: so they are parts of a grid, and not of one drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from simulator.trace_page.marks import Kind, Mark, shape
from verify.formats.page.markup import shown, shown_plainly

__all__ = ["drawn"]

STEP_PX: Final = 10
LANE_PX: Final = 20
"""As in the style: names are text beside the drawing."""
TIMES_PX: Final = 24
"""Above the first service. As in the style."""
RIGHT_PX: Final = 90
"""Room for the time of the last event."""
CHAR_PX: Final = 7
"""Of a time, at most."""
GAP_US: Final = 60_000_000
GAP_EVENTS: Final = 40
"""A time is written where so much has passed, or so many events, since the one before."""
LABEL_CHARS: Final = 26


def drawn(marks: Sequence[Mark]) -> str:
    """The grid, in a box that scrolls: a link for each event, to its row in the list of events."""
    services = _rows(sorted({_service(mark) for mark in marks}), TIMES_PX)
    actors = _rows(dict.fromkeys(_lane(mark) for mark in marks), 0)
    times = _times(marks)
    width = len(marks) * STEP_PX + RIGHT_PX
    top, height = TIMES_PX + len(services) * LANE_PX, len(actors) * LANE_PX
    return (
        '<div class="lanes" role="region" aria-label="Lanes" tabindex="0">'
        f"{_names(services, 'services')}"
        f'<svg class="services" width="{width}" height="{top}" aria-hidden="true">{_lines(services, times, width, top)}'
        f"{_labels(times)}{_meetings(marks, services, top)}</svg>"
        f"{_names(actors, 'actors')}"
        f'<svg class="actors" width="{width}" height="{height}" role="group" aria-label="Events, as in the list of all">'
        f"{_lines(actors, times, width, height)}{_events(marks, actors)}</svg></div>"
    )


# --- where things are ------------------------------------------------------------------------------------------------


def _service(mark: Mark) -> str:
    return mark.event.effect.split(".")[0]


def _lane(mark: Mark) -> str:
    """One lane for an execution's walk, and one for each step of it."""
    parts = mark.event.actor.split("/")
    first = parts[0].split("#")[0]
    return first if len(parts) == 1 else f"{first}/{parts[-1].split('#')[0].split('[')[0]}"


def _rows(names: Iterable[str], top: int) -> dict[str, int]:
    """The middle of each lane."""
    return {name: top + at * LANE_PX + LANE_PX // 2 for at, name in enumerate(names)}


def _x(at: int) -> int:
    return (at + 1) * STEP_PX


def _times(marks: Sequence[Mark]) -> dict[int, str]:
    """The times that are written, by where: none over another."""
    found: dict[int, str] = {}
    written_us, written_at, free_px = -GAP_US, 0, 0
    for at, mark in enumerate(marks):
        passed = mark.event.at_us - written_us >= GAP_US or at - written_at >= GAP_EVENTS
        if passed and _x(at) >= free_px:
            found[_x(at)] = text = f"{mark.event.at_us / 1_000_000:,.0f} s"
            written_us, written_at, free_px = mark.event.at_us, at, _x(at) + (len(text) + 2) * CHAR_PX
    return found


# --- markup ----------------------------------------------------------------------------------------------------------


def _names(rows: Iterable[str], kind: str) -> str:
    labels = (name if len(name) <= LABEL_CHARS else f"{name[: LABEL_CHARS - 1]}…" for name in rows)
    return f'<ul class="names {kind}">{"".join(f"<li>{shown(label)}</li>" for label in labels)}</ul>'


def _lines(rows: Mapping[str, int], times: Iterable[int], width: int, height: int) -> str:
    """A line for each lane, and one for each time that is written."""
    lanes, ticks = "".join(f"M0 {y}H{width}" for y in rows.values()), "".join(f"M{x} 0V{height}" for x in times)
    return f'<path class="lane" d="{lanes}"/><path class="tick" d="{ticks}"/>'


def _labels(times: Mapping[int, str]) -> str:
    return "".join(f'<text class="time" x="{x + 3}" y="15">{text}</text>' for x, text in times.items())


def _meetings(marks: Sequence[Mark], rows: Mapping[str, int], bottom: int) -> str:
    """A line from the service of each event down to where its actor's lane goes on, and a point where it begins."""
    ys = [rows[_service(mark)] for mark in marks]
    stems = _by_kind("stem", marks, [f"V{bottom}"] * len(marks), ys)
    return stems + _by_kind("point", marks, ["h0"] * len(marks), ys)


def _events(marks: Sequence[Mark], rows: Mapping[str, int]) -> str:
    """The lines come first, so that a mark lies over those of others."""
    stems = _by_kind("stem", marks, [f"V{rows[_lane(mark)]}" for mark in marks], [0] * len(marks))
    return stems + "".join(_event(mark, _x(at), rows[_lane(mark)]) for at, mark in enumerate(marks))


def _by_kind(name: str, marks: Sequence[Mark], ways: Sequence[str], ys: Sequence[int]) -> str:
    """One path for all events of a kind: ten thousands of them would take long to draw."""
    paths = dict.fromkeys(Kind, "")
    for at, (mark, way, y) in enumerate(zip(marks, ways, ys, strict=True)):
        paths[mark.kind] += f"M{_x(at)} {y}{way}"
    return "".join(f'<path class="{name} {kind}" d="{way}"/>' for kind, way in paths.items() if way)


def _event(mark: Mark, x: int, y: int) -> str:
    """Thousands of links would be in the way of who walks by keyboard; the rows of the list are there for that."""
    title = f"<title>{shown_plainly(mark.event.line())}</title>"
    return f'<a href="#e{mark.number}" tabindex="-1">{title}{shape(mark.kind, x, y, f"m{mark.number}")}</a>'
