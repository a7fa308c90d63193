"""The coverage ledger as bars: one of everything, and one for each line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from verify.audit.catalogue import FAMILIES
from verify.audit.coverage import Coverage, State
from verify.formats.page.markup import shown

__all__ = ["section"]

WIDTH: Final = 1_000
"""Units of a bar."""
NARROWEST: Final = 6
"""Units of the least that is there: one of a million is still seen."""

_ONE: Final[Mapping[str, str]] = {
    "batches": "batch",
    "collections": "collection",
    "executions": "execution",
    "ledgers": "ledger",
}


def section(coverage: Coverage) -> str:
    """The whole ledger, and what the audit did not look at."""
    lines = "".join(_line(line.family, line.unit, line.total, _counts(line)) for line in coverage.lines)
    left_out = "".join(f"<li>{shown(text)}</li>" for text in coverage.not_looked_at)
    complete = "Everything terminal in scope was checked." if coverage.complete else "Not everything could be checked."
    return (
        f'<section id="coverage"><h2>Coverage</h2><p>{complete} Each line adds up to its total.</p>'
        f"{_legend(coverage)}{_bar(_counts(coverage))}"
        f'<ul class="ledger">{lines}</ul>'
        + (f'<h3 id="not-looked-at">Not looked at</h3><ul class="plain">{left_out}</ul>' if left_out else "")
        + "</section>"
    )


def _counts(source: object) -> Mapping[State, int]:
    if isinstance(source, Coverage):
        return {state: source.count(state) for state in State}
    return {state: int(getattr(source, state.value)) for state in State}


def _word(state: State) -> str:
    return state.value.replace("_", " ")


def _legend(coverage: Coverage) -> str:
    entries = "".join(
        f'<div><dt><i class="{state.value}"></i>{_word(state)}</dt><dd>{coverage.count(state):,}</dd></div>'
        for state in State
    )
    return f'<dl class="legend">{entries}<div><dt>together</dt><dd>{coverage.total:,}</dd></div></dl>'


def _line(family: str, unit: str, total: int, counts: Mapping[State, int]) -> str:
    figures = ", ".join(f"{count:,} {_word(state)}" for state, count in counts.items() if count) or "none"
    noun = _ONE.get(unit, unit) if total == 1 else unit
    return (
        f'<li><span class="what"><b>{FAMILIES[family]}</b> <span>{total:,} {shown(noun)}</span></span>'
        f'{_bar(counts)}<span class="figures">{figures}</span></li>'
    )


def _bar(counts: Mapping[State, int]) -> str:
    pieces, at = [], 0.0
    for state, width in _widths(counts).items():
        pieces.append(f'<rect class="{state.value}" x="{at:.1f}" width="{width:.1f}" height="10"/>')
        at += width
    return f'<svg class="bar" viewBox="0 0 {WIDTH} 10" preserveAspectRatio="none" aria-hidden="true">{"".join(pieces)}</svg>'


def _widths(counts: Mapping[State, int]) -> dict[State, float]:
    """Of the states that there are, together `WIDTH`."""
    total = sum(counts.values())
    wide = {state: max(NARROWEST, WIDTH * count / total) for state, count in counts.items() if count}
    return {state: width * WIDTH / sum(wide.values()) for state, width in wide.items()}
