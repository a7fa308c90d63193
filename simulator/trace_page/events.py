"""Events as rows of a table: what the lanes only hint at, for a finger, a keyboard and a voice, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from simulator.trace_page.marks import Kind, Mark
from verify.formats.page.markup import code, shown

__all__ = ["table"]

COLUMNS: Final = ("event", "s", "who", "effect", "on", "outcome")


def table(marks: Sequence[Mark], *, drawn_from: int, whole: bool) -> str:
    """The number of an event is a link to its mark among the lanes, if it is drawn there.

    `whole`: this is the list of all events, whose rows the marks link to.
    """
    heads = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = "".join(_row(mark, linked=mark.number >= drawn_from, named=whole) for mark in marks)
    return f'<table class="events"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _row(mark: Mark, *, linked: bool, named: bool) -> str:
    event, number = mark.event, mark.number
    name = f' id="e{number}"' if named else ""
    first = f'<a href="#m{number}">{number}</a>' if linked else str(number)
    struck = f"<strong>{shown(event.fault)}</strong> " if mark.kind is Kind.FAULT else ""
    return (
        f'<tr{name} class="{mark.kind}"><th scope="row">{first}</th><td>{event.at_us / 1_000_000:.3f}</td>'
        f"<td>{shown(event.actor)}</td><td>{shown(event.effect)}#{event.nth}</td><td>{code(event.on)}</td>"
        f"<td>{struck}{shown(event.outcome)}</td></tr>"
    )
