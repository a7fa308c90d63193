"""`embedpipe simulate`: sweeps, replay, shrinking and the table of planted bugs, on the command line.

It decides nothing: it reads options, calls the library, and prints. Its heavy imports wait until a command is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from embedpipe.errors import InvalidInput, full_disk
from simulator.cli.mutants import mutants, mutate
from simulator.cli.parts import (
    EXITS,
    faults_option,
    jobs_option,
    out_option,
    scenario_option,
    swept,
    told,
    whole,
    write,
)
from simulator.cli.search import coverage, crashes

if TYPE_CHECKING:
    from simulator.runs import Outcome
    from simulator.sweep import Tally


SEED_DIGITS_MAX: Final = 4_000
"""Longer ones the interpreter doesn't read."""


@click.group()
def simulate() -> None:
    """Run the whole pipeline on virtual time, from a seed, under faults."""


@simulate.command()
@click.option("--runs", default=1_000, show_default=True, type=click.IntRange(1), help="How many.")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the first; each run has its own."
)
@scenario_option
@faults_option
@jobs_option
@click.option("--keep-going", is_flag=True, help="Go on after a run that does not hold.")
@out_option
@common
def run(settings: Settings, keep_going: bool, out: Path | None, **asked: Any) -> int:
    """Run seeds one after another; stop at the first that does not hold, and write its plan down.

    Ends with 0 where all held, 1 where a guarantee was broken, 11 where something never ended, 12 where the code failed in
    a way that it has no name for, 13 where a run was not the same twice.

    \b
    Example:
      embedpipe simulate run --runs 10000 --jobs 2
      embedpipe simulate run --scenario overlap --faults storm --out failures
    """
    total = swept(settings, out, keep_going=keep_going, **asked)
    click.echo(json_text(_document(total)) if settings.json else _summary(total, asked))
    whole(total, seed=asked["seed"], runs=asked["runs"])
    return told(total, out, quiet=settings.json)


def _summary(total: Tally, asked: dict[str, Any]) -> str:
    held = total.runs - len({failure.seed for failure in total.failures})
    return (
        f"{held:,} of {total.runs:,} runs held ({asked['scenario']}, faults {asked['faults']}): {total.effects:,} effects, "
        f"{total.faults:,} faults at {len(total.met)} kinds of places, {total.virtual_s / 3600:,.0f} h of virtual time; "
        f"{total.repeated:,} repeated and equal."
    )


def _document(total: Tally) -> dict[str, Any]:
    return {
        "runs": total.runs,
        "effects": total.effects,
        "faults": total.faults,
        "repeated": total.repeated,
        "virtual_s": total.virtual_s,
        "met": [
            {"step": step, "effect": effect, "fault": fault, "count": count}
            for (step, effect, fault), count in sorted(total.met.items())
        ],
        "failures": [
            {
                "seed": failure.seed,
                "verdict": failure.verdict,
                "broken": list(failure.broken),
                "plan": failure.plan.document(),
            }
            for failure in total.failures
        ],
    }


@simulate.command()
@click.argument("plan", metavar="FILE|SEED")
@scenario_option
@faults_option
@common
def replay(settings: Settings, plan: str, scenario: str, faults: str) -> int:
    """Run one plan, or one seed, again and print its trace: the same bytes each time.

    \b
    Example:
      embedpipe simulate replay small-17.plan.json
      embedpipe simulate replay 17 --scenario small --faults all
    """
    outcome, stale, _ = _again(plan, scenario, faults)
    if settings.json:
        trace = [happened._asdict() for happened in outcome.trace]
        click.echo(json_text({"verdict": outcome.verdict, "broken": list(outcome.broken), "trace": trace}))
    else:
        click.echo("".join(f"{happened.line()}\n" for happened in outcome.trace), nl=False)
        click.echo(f"{outcome.verdict}: {outcome.effects} effects, {len(outcome.strikes)} faults")
        click.echo("".join(f"  {line}\n" for line in outcome.broken), nl=False)
    _refuse_stale(plan, stale)
    return EXITS[outcome.verdict]


def _refuse_stale(plan: str, stale: list[tuple[str, str, int]]) -> None:
    """`InvalidInput` where a run did not come by all faults of its plan: it shows something else than it did."""
    if stale:
        places = ", ".join(f"{ascii(actor)[1:-1][:80]} {effect}#{nth}" for actor, effect, nth in stale[:3])
        raise InvalidInput(
            f"{plan}: planned faults were never met: {places}.", hint="The plan is stale: find it again."
        )


def _again(plan: str, scenario: str, faults: str) -> tuple[Outcome, list[tuple[str, str, int]], str]:
    """The run of a file or of a seed, what of its plan was never met, and the name of its scenario."""
    from simulator.plan import read_plan, scenario_named
    from simulator.plan import replay as replay_plan
    from simulator.runs import run as run_once
    from simulator.scenarios import turn
    from simulator.sweep import same_code

    if plan.isascii() and plan.isdecimal() and len(plan) <= SEED_DIGITS_MAX:
        scenario, faults = turn(scenario, faults, int(plan))
        return run_once(scenario_named(scenario), int(plan), faults), [], scenario
    read = read_plan(Path(plan))
    outcome, stale = replay_plan(read)
    if not same_code(read):
        click.echo("The plan was written by different code: it may come to another end.", err=True)
    return outcome, stale, read.scenario


@simulate.command()
@click.argument("plan", metavar="FILE|SEED")
@click.option(
    "--html", "page", metavar="PATH", type=click.Path(path_type=Path), required=True, help="Where the page goes."
)
@scenario_option
@faults_option
@common
def trace(settings: Settings, plan: str, page: Path, scenario: str, faults: str) -> int:
    """Draw one run: a lane for each actor and service, faults in red, and what led to what is broken. One file, offline.

    \b
    Example:
      embedpipe simulate trace overlap-17.small.json --html trace.html
    """
    from simulator.trace_page import render

    outcome, stale, named = _again(plan, scenario, faults)
    with full_disk(str(page)):
        page.write_text(render(outcome, scenario=named), encoding="utf-8")
    said = {"page": str(page), "verdict": outcome.verdict, "effects": outcome.effects}
    click.echo(json_text(said) if settings.json else f"{outcome.verdict}: {outcome.effects} effects in {page}")
    _refuse_stale(plan, stale)
    return EXITS[outcome.verdict]


@simulate.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="[default: PLAN with .small before .json]")
@common
def shrink(settings: Settings, plan: Path, out: Path | None) -> int:
    """Make the plan of a failing run as small as it gets: fewer faults, less submitted.

    \b
    Example:
      embedpipe simulate shrink small-17.plan.json
    """
    import attrs

    from simulator.plan import code_digest, read_plan
    from simulator.plan import replay as replay_plan
    from simulator.shrink import shrink as shrink_plan

    small = attrs.evolve(shrink_plan(read_plan(plan)), code=code_digest())
    outcome, _ = replay_plan(small)
    if outcome.verdict == "held":
        raise InvalidInput(f"{plan} holds: nothing is broken, so nothing can be smaller.")
    path = out or plan.with_name(f"{plan.name.removesuffix('.json').removesuffix('.plan')}.small.json")
    write(path, small)
    faults = [f"{strike.actor} {strike.effect}#{strike.nth} {strike.fault}" for strike in small.strikes]
    if settings.json:
        said = {"plan": str(path), "verdict": outcome.verdict, "broken": list(outcome.broken), "faults": faults}
        click.echo(json_text(said))
    else:
        click.echo(f"{outcome.verdict} with {len(faults)} faults and {len(outcome.trace)} effects; plan {path}")
        click.echo("".join(f"  {line}\n" for line in (*faults, *outcome.broken[:3])), nl=False)
        click.echo(f"Next: embedpipe simulate trace {path} --html trace.html")
    return EXITS[outcome.verdict]


simulate.add_command(crashes)
simulate.add_command(coverage)
simulate.add_command(mutants)
simulate.add_command(mutate)
