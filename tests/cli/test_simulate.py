"""`embedpipe simulate` as a user calls it."""

from __future__ import annotations

from pathlib import Path

from simulator.plan import Plan
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
