"""What the commands of `embedpipe simulate` share: options, the progress line, exit codes, and where plans are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import click

from embedpipe.errors import Interrupted, full_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedpipe.cli.options import Settings
    from simulator.plan import Plan
    from simulator.sweep import Failure, Tally

__all__ = ["EXITS", "HELD", "kept", "progress", "swept", "told", "whole", "write"]

HELD: Final = 0
EXITS: Final = {"held": HELD, "safety": 1, "liveness": 11, "crash": 12, "nondeterminism": 13}
"""Verdict -> exit code."""
HEARTBEAT_S: Final = 10.0


scenario_option: Final = click.option(
    "--scenario",
    default="small",
    show_default=True,
    metavar="NAME",
    help="small, overlap, texts, versions, flips, rush, crowd, seed62, backlog1500, or mix: they take turns.",
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
    """Write the plans of failing runs down, say where, and give the exit code."""
    for failure in total.failures:
        path = kept(failure, out)
        if not quiet:
            click.echo(f"{failure.verdict}: seed {failure.seed}, {len(failure.plan.strikes)} faults; plan {path}")
            click.echo("".join(f"  {line}\n" for line in failure.broken[:5]), nl=False)
            click.echo(f"Next: embedpipe simulate shrink {path}")
    return EXITS[total.failures[0].verdict] if total.failures else HELD


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


def swept(settings: Settings, *, keep_going: bool, **asked: Any) -> Tally:
    """A sweep with its progress. Ctrl-C ends it after the runs that are under way; what there is then is as good as all."""
    from embedpipe.cli.interrupt import stoppable
    from simulator.sweep import sweep

    asked_to_stop = Event()
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
    """A line that is written over on a terminal, and a line now and then elsewhere. It takes what there is, and of how many."""
    if quiet or sys.stderr is None:
        yield lambda _, __: None
        return
    from embedpipe.backends.system import SystemClock
    from simulator.points import POINTS

    clock = SystemClock()
    terminal = sys.stderr.isatty()
    began = last = clock.monotonic_s()

    def show(total: Tally, runs: int) -> None:
        nonlocal last
        now = clock.monotonic_s()
        line = f"{total.runs:,} of {runs:,} runs, {total.runs / max(now - began, 1e-3):,.0f}/s, {total.faults:,} faults"
        line += f" at {len(total.met)} places, {len(total.points)} of {len(POINTS)} points"
        line += f", {total.virtual_s / 3_600:,.0f} h of virtual time, {len(total.failures)} failures"
        if terminal:
            click.echo(f"\r{line}", nl=False, err=True)
        elif now - last >= HEARTBEAT_S:
            last = now
            click.echo(line, err=True)

    yield show
    if terminal:
        click.echo("\r\033[K", nl=False, err=True)
