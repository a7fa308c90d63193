"""Plans that once failed, of real bugs and the smallest that showed each planted one: they hold, and strike what they say.

A plan whose fault is no longer met proves nothing any more: find it again with
`python -m tests.simulation.test_regressions NAME...` where it was a planted bug's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from simulator.mutants.catalogue import MUTANTS
from simulator.mutants.planting import hunted, replayed
from simulator.plan import read_plan, replay
from simulator.runs import Verdict

FOLDER: Final = Path(__file__).parent / "regressions"
PLANTED: Final = FOLDER / "planted"
REAL: Final = {
    "late_create": "A slow read between the claim of a create and the create, and a machine whose clock is ahead: paid twice.",
    "late_mend": "A second delivery of a poll got a damaged copy of the delta and polled again, when its results were gathered "
    "already: the auditor called them another's.",
}
"""Plan -> the bug that it showed, of the pipeline or of its auditor."""
THOROUGH: Final = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EVERY: Final = 1 if THOROUGH else 10
"""Planting takes a process and a second for each."""

PLANS: Final = [*sorted(FOLDER.glob("*.json")), *sorted(PLANTED.glob("*.json"))]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_that_failed_holds_and_still_strikes(path: Path) -> None:
    outcome, stale = replay(read_plan(path))
    assert stale == [], "find it again: the code has other effects now"
    assert outcome.verdict is Verdict.HELD, outcome.broken


@pytest.mark.parametrize("path", sorted(PLANTED.glob("*.json"))[::EVERY], ids=lambda path: path.stem)
def test_a_plan_shows_the_bug_that_it_is_named_for(path: Path) -> None:
    said = replayed(path.stem, path)
    assert said["verdict"] != Verdict.HELD, "find it again: it does not show the bug any more"


def test_every_plan_has_its_story() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(REAL)
    found = {name for name, mutant in MUTANTS.items() if not mutant.missed}
    assert {path.stem for path in PLANTED.glob("*.json")} <= found
    assert len(list(PLANTED.glob("*.json"))) >= 71


if __name__ == "__main__":
    for name in sys.argv[1:]:
        (hunt,) = hunted(name, scenario="mix", faults="mix", seed=1, runs=1_000)
        if hunt["seeds"] is None:
            sys.exit(f"{name} was not found")
        (PLANTED / f"{name}.json").write_text(json.dumps(hunt["plan"], indent=2) + "\n")
