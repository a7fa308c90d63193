"""`embedpipe simulate crashes` and `coverage`: how far a search has come, on the command line. They decide nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from embedpipe.errors import Interrupted
from simulator.cli.parts import (
    jobs_option,
    mixed_faults_option,
    mixed_scenario_option,
    out_option,
    prepare,
    progress,
    swept,
    told,
    whole,
)

if TYPE_CHECKING:
    from simulator.coverage import Coverage

__all__ = ["coverage", "crashes"]


@click.command()
@click.option(
    "--scenario", default="small", show_default=True, metavar="NAME", help="As of `simulate run`, but one of them."
)
@click.option(
    "--seed", default=3, show_default=True, type=click.IntRange(0), help="Of the run whose effects are struck."
)
@click.option("--pairs", is_flag=True, help="Then each second crash that can follow the first: thousands of runs.")
@click.option("--limit", type=click.IntRange(1), help="At most so many runs of each kind.")
@jobs_option
@out_option
@common
def crashes(settings: Settings, out: Path | None, **asked: Any) -> int:
    """Crash at every effect of one run: before it, after it, and half-way. Each has to come to the same good end.

    \b
    Example:
      embedpipe simulate crashes
      embedpipe simulate crashes --scenario versions --seed 7 --pairs --limit 2000 --jobs 2
    """
    from threading import Event

    from embedpipe.cli.interrupt import stoppable
    from simulator.crashes import crashed

    asked_to_stop = Event()
    prepare(out)
    with progress(quiet=settings.quiet) as on_progress, stoppable(asked_to_stop.set):
        total = crashed(on_progress=on_progress, stopping=asked_to_stop.is_set, **asked)
    held = total.runs - len(total.failures)
    if settings.json:
        click.echo(json_text({"runs": total.runs, "held": held, "faults": total.faults}))
    else:
        click.echo(
            f"{held:,} of {total.runs:,} runs held, each with a crash at another place; {total.faults:,} crashes."
        )
    if asked_to_stop.is_set() and not total.failures:
        raise Interrupted(f"Interrupted after {total.runs:,} runs, all of which held.", hint="Run it again for all.")
    return told(total, out, quiet=settings.json)


@click.command()
@click.option("--runs", default=1_000, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the first.")
@mixed_scenario_option
@mixed_faults_option
@jobs_option
@out_option
@common
def coverage(settings: Settings, out: Path | None, **asked: Any) -> int:
    """Run seeds and say what they have been through: which step met which fault, and what has happened at least once.

    Ends with 1 where a cell is empty or a point was never reached, and neither is known to be out of reach.

    \b
    Example:
      embedpipe simulate coverage --runs 3000 --jobs 2
    """
    from simulator.coverage import covered

    total = swept(settings, out, keep_going=True, **asked)
    found = covered(total)
    click.echo(json_text(_document(found)) if settings.json else _drawn(found, total.runs), nl=settings.json)
    whole(total, seed=asked["seed"], runs=asked["runs"])
    return told(total, out, quiet=settings.json) or int(bool(found.holes))


def _document(found: Coverage) -> dict[str, Any]:
    return {
        "cells": [{"step": step, "fault": fault, "count": count} for (step, fault), count in found.cells.items()],
        "points": dict(found.points),
        "holes": list(found.holes),
    }


def _drawn(found: Coverage, runs: int) -> str:
    """Steps down, faults across; a dot where a step can't meet a fault."""
    faults = sorted({fault for _, fault in found.cells})
    steps = sorted({step for step, _ in found.cells})
    width = max(map(len, steps))
    lines = [" " * width + "".join(f"  {fault}" for fault in faults)]
    for step in steps:
        counts = (str(found.cells.get((step, fault), ".")).rjust(len(fault) + 2) for fault in faults)
        lines.append(step.ljust(width) + "".join(counts))
    lines += ["", f"in how many of {runs:,} runs:"]
    lines += [f"{count:>7,}  {name}" for name, count in found.points.items()]
    lines += ["", *(f"hole: {hole}" for hole in found.holes)] if found.holes else []
    return "".join(f"{line}\n" for line in lines)
