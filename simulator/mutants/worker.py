"""One planted bug in a process of its own: runs seeds until one fails, and says which, after how long, and how small it gets.

python -m simulator.mutants.worker NAME [--scenario small] [--faults all] [--seed 1] [--runs 200] [--bases 1]
python -m simulator.mutants.worker NAME --plan FILE
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from simulator.mutants.catalogue import MUTANTS
from simulator.mutants.loader import install

if TYPE_CHECKING:
    from simulator.runs import Outcome

APART: Final = 100_000
"""[ours] Between the first seeds of two bases."""


@click.command()
@click.argument("name")
@click.option("--scenario", default="mix")
@click.option("--faults", default="mix")
@click.option("--seed", "base", default=1)
@click.option("--runs", default=200)
@click.option("--bases", default=1)
@click.option("--plan", type=click.Path(path_type=Path))
def main(name: str, scenario: str, faults: str, base: int, runs: int, bases: int, plan: Path | None) -> None:
    """Print one JSON line for each base of seeds, or for a plan that is replayed."""
    install(MUTANTS[name].patches)
    if plan is not None:
        from simulator.plan import read_plan, replay

        outcome, _ = replay(read_plan(plan))
        said = {"mutant": name, "verdict": outcome.verdict, "broken": outcome.broken[:2], **sizes(outcome)}
        sys.stdout.write(json.dumps(said) + "\n")
        return
    found = False
    for at in range(bases):
        said = hunt(name, scenario, faults, base + at * APART, runs, small=not found)
        found = found or said["seeds"] is not None
        sys.stdout.write(json.dumps(said) + "\n")


def hunt(name: str, scenario: str, faults: str, base: int, runs: int, *, small: bool = True) -> dict[str, Any]:
    """Runs from `base` on, until one fails. `small`: whether it is shrunk then, which takes longer than to find most."""
    from simulator.plan import plan_of, replay, scenario_named
    from simulator.runs import Verdict, run
    from simulator.scenarios import turn
    from simulator.shrink import shrink

    began = time.process_time()
    for at in range(runs):
        name_now, profile = turn(scenario, faults, base + at)
        named = scenario_named(name_now)
        outcome = run(named, base + at, profile)
        if outcome.verdict is not Verdict.HELD:
            found_s = time.process_time() - began
            plan = plan_of(named, outcome)
            if small:
                plan = shrink(plan)
            shrunk_s = time.process_time() - began - found_s
            return {
                "mutant": name,
                "base": base,
                "scenario": named.name,
                "seeds": at + 1,
                "seconds": round(found_s, 2),
                "verdict": outcome.verdict,
                "broken": outcome.broken[:2],
                "rules": sorted(outcome.rules),
                "faults": [f"{each.actor} {each.effect}#{each.nth} {each.fault}" for each in plan.strikes],
                "shrunk": {"seconds": round(shrunk_s, 2), **sizes(replay(plan)[0])} if small else None,
                "plan": json.loads(plan.dump()),
            }
    return {"mutant": name, "base": base, "seeds": None, "seconds": round(time.process_time() - began, 2)}


def sizes(outcome: Outcome) -> dict[str, Any]:
    """What is left to look at: batches, effects, and those of them that led to what is broken; and what that is."""
    from simulator.trace_page.chain import chain_of

    batches = {line.on for line in outcome.trace if line.effect == "table.put_new"}
    return {
        "batches": len(batches),
        "effects": outcome.effects,
        "lines": len(chain_of(outcome.trace, outcome.broken)),
        "rules": sorted(outcome.rules),
    }


if __name__ == "__main__":
    main()
