"""The journeys of affected batches, drawn: what they certainly passed, where they broke, and what nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from verify.audit.journeys import Journey, Stage, Standing, Step
from verify.formats.page.markup import code, number, shown

__all__ = ["linked", "section"]

_GLYPHS: Final[Mapping[Standing, str]] = {
    Standing.PASSED: "✓",
    Standing.SKIPPED: "-",
    Standing.AHEAD: "·",
    Standing.UNKNOWN: "?",
    Standing.BROKEN: "✕",
    Standing.AFFECTED: "!",
}
_WORDS: Final[Mapping[Standing, str]] = {
    Standing.PASSED: "passed",
    Standing.SKIPPED: "nothing to do",
    Standing.AHEAD: "not yet",
    Standing.UNKNOWN: "not known",
    Standing.BROKEN: "broken",
    Standing.AFFECTED: "wrong as a consequence",
}


def section(journeys: Sequence[Journey], affected: int, here: frozenset[str]) -> str:
    """`affected`: how many batches the findings name. `here`: the codes that have a place on the page."""
    if not journeys:
        return ""
    shortened = (
        f" These are {len(journeys):,} of {number(affected, 'batch')}; the findings name all."
        if affected > len(journeys)
        else ""
    )
    drawn = "".join(_journey(journey, here) for journey in journeys)
    return (
        f'<section id="journeys"><h2>Journeys</h2><p>Where each affected batch stands between submitted and marked. '
        f"A stage counts as passed only where something that was read shows it.{shortened}</p>"
        f'<ul class="journeys">{drawn}</ul></section>'
    )


def linked(codes: Iterable[str], here: frozenset[str]) -> str:
    """Codes, each leading to its findings."""
    return ", ".join(f'<a href="#{name}">{name}</a>' if name in here else shown(name) for name in codes)


def _journey(journey: Journey, here: frozenset[str]) -> str:
    status = f' <span class="status">row says {code(journey.status)}</span>' if journey.status else ""
    steps = "".join(_step(step, here) for step in journey.steps)
    return (
        f'<li class="journey"><h3>{code(journey.batch_id)}</h3>'
        f'<p>{_where(journey.broke_at, journey.steps)}{status}</p><ol class="track">{steps}</ol></li>'
    )


def _where(stage: Stage | None, steps: Sequence[Step]) -> str:
    step = next((step for step in steps if step.stage is stage), None)
    if step is None:
        return "Not broken as far as anybody knows."
    if step.standing is Standing.AFFECTED:
        return f"Wrong at <strong>{step.stage}</strong>, as a consequence of another finding."
    return f"Broke at <strong>{step.stage}</strong>."


def _step(step: Step, here: frozenset[str]) -> str:
    why = f'<span class="why">{linked(step.codes, here)}</span>' if step.codes else ""
    return (
        f'<li class="{step.standing}"><span class="dot" aria-hidden="true">{_GLYPHS[step.standing]}</span>'
        f'<span class="stage">{step.stage}</span><span class="word">{_WORDS[step.standing]}</span>{why}</li>'
    )
