"""The trace of a run as one HTML file: a lane for each actor and service, time across, and what led to the end of it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from simulator.effects import Happened
from simulator.runs import Outcome, Verdict
from simulator.trace_page.chain import chain_of
from simulator.trace_page.lanes import drawn
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


def render(outcome: Outcome, *, scenario: str) -> str:
    """The whole page. It asks no network and has no script; ids, keys and texts of the run are never more than text."""
    style = files("simulator.trace_page").joinpath("trace.css").read_text("utf-8")
    chain = chain_of(outcome.trace, outcome.broken)
    body = (
        f"{_head(outcome, scenario)}\n<main>\n{_broken(outcome)}{_chain(outcome, chain)}"
        f"<section><h2>What happened</h2>\n{drawn(outcome.trace, marked=frozenset(chain))}</section>\n</main>"
    )
    return framed(body, title=f"{outcome.verdict}: seed {outcome.seed}", style=style)


def _head(outcome: Outcome, scenario: str) -> str:
    hours = outcome.virtual_s / 3_600
    return (
        f'<header class="{outcome.verdict}"><p class="verdict">{outcome.verdict}</p><h1>{SAID[outcome.verdict]}</h1>'
        f"<p>Scenario {code(scenario)}, seed {outcome.seed}: {number(outcome.effects, 'effect')}, "
        f"{number(len(outcome.strikes), 'fault')}, {hours:,.1f} hours of virtual time.</p></header>"
    )


def _broken(outcome: Outcome) -> str:
    if not outcome.broken:
        return ""
    lines = "".join(f"<li>{shown(line)}</li>" for line in outcome.broken)
    return f'<section class="broken"><h2>What does not hold</h2><ul>{lines}</ul></section>\n'


def _chain(outcome: Outcome, chain: Sequence[int]) -> str:
    """The events about what the broken guarantees name, and each fault."""
    if not chain:
        return ""
    rows = "".join(_row(outcome.trace[at]) for at in chain)
    return (
        '<section><h2>What led to it</h2><div class="wide" tabindex="0"><table><thead><tr><th>s</th><th>who</th>'
        f"<th>effect</th><th>of</th><th>outcome</th></tr></thead><tbody>{rows}</tbody></table></div></section>\n"
    )


def _row(line: Happened) -> str:
    struck = f"<td><strong>{shown(line.fault)}</strong> {shown(line.outcome)}</td>"
    outcome = struck if line.fault else f"<td>{shown(line.outcome)}</td>"
    cells = f"<td>{line.at_us / 1_000_000:.3f}</td><td>{shown(line.actor)}</td><td>{shown(line.effect)}#{line.nth}</td>"
    return f'<tr class="{"fault" if line.fault else "quiet"}">{cells}<td>{code(line.on)}</td>{outcome}</tr>'
