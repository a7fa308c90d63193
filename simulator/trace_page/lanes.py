"""The lanes of a trace as one drawing: actors above, services below, an event where its actor meets its service.

Events stand in their order and not at their times: a run waits for hours and then does forty things in a second. The time is
written where it has moved by more than a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from simulator.effects import Happened
from verify.formats.page.markup import shown, shown_plainly

__all__ = ["drawn"]

STEP_PX: Final = 9
LANE_PX: Final = 20
LEFT_PX: Final = 190
TOP_PX: Final = 34
GAP_US: Final = 60_000_000
"""A time is written where so much has passed since the event before."""
EVENTS_MAX: Final = 3_000
"""[ours] The last so many are drawn; bounds the page."""
LABEL_CHARS: Final = 26


def drawn(trace: Sequence[Happened], *, marked: frozenset[int] = frozenset()) -> str:
    """The drawing, in a box that scrolls. `marked`: positions of events that led to what is broken."""
    first = max(0, len(trace) - EVENTS_MAX)
    events = list(trace[first:])
    actors = list(dict.fromkeys(_lane(event.actor) for event in events))
    services = sorted({event.effect.split(".")[0] for event in events})
    rows = {name: TOP_PX + at * LANE_PX for at, name in enumerate([*actors, *services])}
    width, height = LEFT_PX + (len(events) + 2) * STEP_PX, TOP_PX + len(rows) * LANE_PX
    parts = [_row(name, y, width, service=name in services) for name, y in rows.items()]
    before_us = -GAP_US
    for at, event in enumerate(events):
        x = LEFT_PX + (at + 1) * STEP_PX
        if event.at_us - before_us >= GAP_US:
            parts.append(f'<text class="time" x="{x}" y="14">{event.at_us / 1_000_000:,.0f} s</text>')
            parts.append(f'<path class="tick" d="M{x} 18V{height}"/>')
        before_us = event.at_us
        ends = rows[_lane(event.actor)], rows[event.effect.split(".")[0]]
        parts.append(_event(event, x, *ends, marked=first + at in marked))
    left_out = f"<p>The first {first:,} events are left out.</p>" if first else ""
    return (
        f'{left_out}<div class="wide" tabindex="0"><svg width="{width}" height="{height}" role="img" '
        f'aria-label="Lanes of actors and services">{"".join(parts)}</svg></div>'
    )


def _lane(actor: str) -> str:
    """One lane for an execution's walk, and one for each step of it."""
    parts = actor.split("/")
    first = parts[0].split("#")[0]
    return first if len(parts) == 1 else f"{first}/{parts[-1].split('#')[0].split('[')[0]}"


def _row(name: str, y: int, width: int, *, service: bool) -> str:
    label = name if len(name) <= LABEL_CHARS else f"{name[: LABEL_CHARS - 1]}…"
    kind = "service" if service else "actor"
    return f'<path class="lane {kind}" d="M{LEFT_PX} {y}H{width}"/><text class="{kind}" x="6" y="{y + 4}">{shown(label)}</text>'


def _event(event: Happened, x: int, top: int, bottom: int, *, marked: bool) -> str:
    kind = "fault" if event.fault else "marked" if marked else "failed" if event.outcome != "ok" else "quiet"
    radius = 4 if event.fault or marked else 2.5
    title = f"<title>{shown_plainly(event.line())}</title>"
    return f'<g class="{kind}">{title}<path d="M{x} {top}V{bottom}"/><circle cx="{x}" cy="{top}" r="{radius}"/></g>'
