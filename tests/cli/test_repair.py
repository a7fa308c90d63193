"""`embedpipe verify repair` as an operator calls it, on a root of files, SQLite and Chroma."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_a_torn_object_is_planned_mended_and_put_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_text("a note on tea\nanother on bread\n")
    there = ("--root", "r")
    assert run("run", "n.txt", "--format", "text", "-q", *there).exit_code == 0
    (torn,) = tmp_path.glob("r/objects/poll_results/*/poll_results.json")
    whole = torn.read_bytes()
    torn.write_bytes(whole[:5])
    assert run("verify", "check", "-q", *there).exit_code == 1
    planned = run("verify", "repair", "plan", "--out", "p.json", "--json", *there).document
    assert [action["mends"] for action in planned["actions"]] == [["P205"]]
    assert torn.read_bytes() == whole[:5]
    assert run("verify", "repair", "apply", "p.json", "--dry-run", *there).stdout.startswith("done: write")
    assert torn.read_bytes() == whole[:5]
    applied = run("verify", "repair", "apply", "p.json", *there)
    assert applied.exit_code == 0
    assert "Next: embedpipe verify check --root r" in applied.stdout
    assert torn.read_bytes() == whole
    assert run("verify", "check", "-q", *there).exit_code == 0
    assert run("verify", "repair", "apply", "p.json", *there).stdout.startswith("already: write")
    journal = applied.stdout.split("undo ")[1].split()[0]
    assert run("verify", "repair", "undo", journal, *there).stdout.startswith("undone: write")
    assert torn.read_bytes() == whole[:5]
    torn.write_bytes(b"[]")
    assert run("verify", "repair", "apply", "p.json", *there).exit_code == 1


def test_what_is_no_plan_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("[]")
    assert "no plan of repair" in run("verify", "repair", "apply", "p.json").stderr
    assert run("verify", "repair", "apply", "none.json").exit_code == 2
    assert run("verify", "repair", "undo", "nobody", "--root", "r").exit_code == 2
