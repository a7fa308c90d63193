"""What the commands of `embedpipe simulate` share: options, the progress line, exit codes, and where plans are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import click

from embedpipe.errors import (
    EXIT_CRASH,
    EXIT_FINDINGS,
    EXIT_LIVENESS,
    EXIT_NONDETERMINISM,
    EXIT_OK,
    Interrupted,
    full_disk,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedpipe.cli.options import Settings
    from simulator.plan import Plan
    from simulator.sweep import Failure, Tally

__all__ = ["EXITS", "HELD", "kept", "prepare", "progress", "swept", "told", "whole", "write"]

HELD: Final = EXIT_OK
EXITS: Final = {
    "held": HELD,
    "safety": EXIT_FINDINGS,
    "liveness": EXIT_LIVENESS,
    "crash": EXIT_CRASH,
    "nondeterminism": EXIT_NONDETERMINISM,
}
"""Verdict -> exit code."""
HEARTBEAT_S: Final = 10.0
"""Between two lines where there is no terminal."""
REDRAWN_S: Final = 0.2
"""Between two looks of the table. Not by a thread of its own: that would ask for the clock while a world runs."""


scenario_option: Final = click.option(
    "--scenario",
    default="small",
    show_default=True,
    metavar="NAME",
    help="tiny, small, overlap, texts, versions, flips, rush, crowd, odds, seed62, backlog1500, or mix: they take turns.",
)
faults_option: Final = click.option(
    "--faults",
    default="all",
    show_default=True,
    metavar="PROFILE",
    help="all, none, storm, crashes, answers, races, deaths, writes, stalls, echoes, rot or mix.",
)
mixed_scenario_option: Final = click.option(
    "--scenario", default="mix", show_default=True, metavar="NAME", help="As of `simulate run`."
)
mixed_faults_option: Final = click.option(
    "--faults", default="mix", show_default=True, metavar="PROFILE", help="As of `simulate run`."
)
jobs_option: Final = click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes side by side."
)
out_option: Final = click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    help="Where the plans of failing runs go.",
)


def told(total: Tally, out: Path | None, *, quiet: bool = False) -> int:
    """Say what failed, write the plans down, and give the exit code. `quiet`: it has been said already."""
    for failure in total.failures:
        if not quiet:
            click.echo(f"{failure.verdict}: seed {failure.seed} of {failure.plan.scenario}, {_faults(failure)}")
            click.echo("".join(f"  {line}\n" for line in failure.broken[:5]), nl=False)
        path = kept(failure, out)
        if not quiet:
            click.echo(f"plan {path}")
            click.echo(_next(failure, path))
    return EXITS[total.failures[0].verdict] if total.failures else HELD


def _faults(failure: Failure) -> str:
    count = len(failure.plan.strikes)
    return "1 fault" if count == 1 else f"{count} faults"


def _next(failure: Failure, path: Path) -> str:
    if failure.verdict == "nondeterminism":
        return "Next: look in the code for what depends on the order of a set, on hash(), id() or the real clock."
    return f"Next: embedpipe simulate shrink {path}"


def kept(failure: Failure, out: Path | None) -> Path:
    """Write the plan of a failing run."""
    path = (out or Path()) / f"{failure.plan.scenario}-{failure.seed}.plan.json"
    write(path, failure.plan)
    return path


def write(path: Path, plan: Plan) -> None:
    """Write a plan to a file."""
    with full_disk(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(plan.dump(), encoding="utf-8")


def prepare(out: Path | None) -> None:
    """Make the folder of the plans: one that can't be written to is told before hours of work."""
    if out is not None:
        with full_disk(str(out)):
            out.mkdir(parents=True, exist_ok=True)


def swept(settings: Settings, out: Path | None, *, keep_going: bool, **asked: Any) -> Tally:
    """A sweep with its progress. Ctrl-C ends it after the runs that are under way; what there is then is as good as all."""
    from embedpipe.cli.interrupt import stoppable
    from simulator.sweep import sweep

    asked_to_stop = Event()
    prepare(out)
    with progress(quiet=settings.quiet) as on_progress, stoppable(asked_to_stop.set):
        return sweep(
            keep_going=keep_going,
            on_progress=lambda tally: on_progress(tally, asked["runs"]),
            stopping=asked_to_stop.is_set,
            **asked,
        )


def whole(total: Tally, *, seed: int, runs: int) -> None:
    """`Interrupted`, which says how to go on, where a sweep in which all held was stopped before its end."""
    left = runs - total.runs
    if left and not total.failures:
        raise Interrupted(
            f"Interrupted after {total.runs:,} runs, all of which held.",
            hint=f"Go on with --seed {seed + total.runs} --runs {left}.",
        )


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[Tally, int], None]]:
    """A table that is drawn anew on a terminal, and a line now and then elsewhere. It takes what there is, and of how many."""
    if quiet or sys.stderr is None:
        yield lambda _, __: None
        return
    from embedpipe.backends.system import SystemClock

    clock = SystemClock()
    began = clock.monotonic_s()
    terminal = sys.stderr.isatty()
    last, every_s = (began - REDRAWN_S, REDRAWN_S) if terminal else (began, HEARTBEAT_S)
    with _drawn() if terminal else nullcontext(_say) as show:

        def on_progress(total: Tally, runs: int) -> None:
            nonlocal last
            now = clock.monotonic_s()
            if now - last >= every_s:
                last = now
                show(_figures(total, runs, now - began))

        yield on_progress


def _figures(total: Tally, runs: int, elapsed_s: float) -> dict[str, str]:
    """What a sweep has come to, by what it is called."""
    from simulator.points import POINTS

    return {
        "runs": f"{total.runs:,} of {runs:,}",
        "runs/s": f"{total.runs / max(elapsed_s, 1e-3):,.0f}",
        "virtual time": f"{total.virtual_s / 3_600:,.0f} h",
        "faults": f"{total.faults:,}",
        "at places": f"{len(total.met)}",
        "points": f"{len(total.points)} of {len(POINTS)}",
        "failures": f"{len(total.failures)}",
    }


def _say(figures: dict[str, str]) -> None:
    """A line on stderr. Nobody reading it is no reason to stop."""
    with suppress(OSError):
        click.echo(", ".join(f"{name} {value}" for name, value in figures.items()), err=True)


@contextmanager
def _drawn() -> Iterator[Callable[[dict[str, str]], None]]:
    """A table on the terminal that goes when all is done."""
    from rich.console import Console
    from rich.live import Live

    from embedpipe.cli.output import table

    with Live(console=Console(stderr=True, highlight=False), transient=True, auto_refresh=False) as live:
        yield lambda figures: live.update(
            table(list(figures), [list(figures.values())], numbers=list(figures)), refresh=True
        )
