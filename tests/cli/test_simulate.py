"""`embedpipe simulate` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

from embedpipe.errors import EXIT_CODES
from simulator.cli.parts import EXITS
from simulator.faults import Fault, Strike
from simulator.plan import Plan
from simulator.runs import Verdict
from tests.cli.conftest import Run


def test_the_command_line(run: Run, tmp_path: Path) -> None:
    held = run("simulate", "run", "--runs", "3", "--scenario", "small", "--json")
    assert held.exit_code == 0
    assert held.document["runs"] == 3
    one = run("simulate", "replay", "5")
    assert one.stdout == run("simulate", "replay", "5").stdout
    assert "held: " in one.stdout
    assert run("simulate", "replay", str(tmp_path / "none.json")).exit_code == 5
    path = tmp_path / "held.json"
    path.write_text(Plan(scenario="small", seed=1).dump())
    assert "holds" in run("simulate", "shrink", str(path)).stderr
    stale = Strike(actor="no\x1bbody", effect="objects.get", nth=1, fault=Fault.SLOW)
    path.write_text(Plan(scenario="small", seed=1, strikes=(stale,)).dump())
    for command in (["replay", str(path)], ["trace", str(path), "--html", str(tmp_path / "page.html")]):
        said = run("simulate", *command)
        assert said.exit_code == 5
        assert "never met: no\\x1bbody objects.get#1" in said.stderr


def test_results_of_mutations_are_kept_and_not_made_again(run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "results.jsonl"
    asked = ["simulate", "mutate", "embedpipe.stages.poll:may_replace:compare-5", "--runs", "2", "--results", str(kept)]
    assert run(*asked).exit_code == 0
    (line,) = kept.read_text().splitlines()
    kept.write_text(json.dumps(json.loads(line) | {"by": "hang"}) + "\n")
    again = run(*asked)
    assert (again.exit_code, "by hang: 1" in again.stdout) == (0, True)
    kept.write_text("no JSON\n")
    assert run(*asked).exit_code == 7
    assert run("simulate", "mutate", "nobody:*").exit_code == 5


def test_each_verdict_has_an_exit_code_of_its_own_that_is_documented() -> None:
    assert set(EXITS) == set(Verdict)
    assert len(set(EXITS.values())) == len(EXITS)
    assert set(EXITS.values()) <= set(EXIT_CODES)
