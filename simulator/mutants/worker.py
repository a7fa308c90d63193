"""One planted bug in a process of its own: runs seeds until one fails, and says which, after how long, and how small it gets.

python -m simulator.mutants.worker NAME [--scenario small] [--faults all] [--seed 1] [--runs 200]
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from simulator.mutants.catalogue import MUTANTS
from simulator.mutants.loader import install


@click.command()
@click.argument("name")
@click.option("--scenario", default="mix")
@click.option("--faults", default="mix")
@click.option("--seed", "base", default=1)
@click.option("--runs", default=200)
def main(name: str, scenario: str, faults: str, base: int, runs: int) -> None:
    """Print one JSON line."""
    install(MUTANTS[name].patches)
    sys.stdout.write(json.dumps(hunt(name, scenario, faults, base, runs)) + "\n")


def hunt(name: str, scenario: str, faults: str, base: int, runs: int) -> dict[str, Any]:
    """Runs from `base` on, until one fails."""
    from simulator.plan import plan_of, scenario_named
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
            small = shrink(plan_of(named, outcome))
            return {
                "mutant": name,
                "scenario": named.name,
                "seeds": at + 1,
                "seconds": round(found_s, 2),
                "verdict": outcome.verdict,
                "broken": outcome.broken[:2],
                "faults": [f"{each.actor} {each.effect}#{each.nth} {each.fault}" for each in small.strikes],
            }
    return {"mutant": name, "seeds": None, "seconds": round(time.process_time() - began, 2)}


if __name__ == "__main__":
    main()
