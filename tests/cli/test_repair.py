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


def test_a_root_with_other_names_is_mended_under_its_layout(run: Run, tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_text("a note on tea\n")
    there = ("--root", "r")
    assert run("run", "n.txt", "--format", "text", "-q", *there).exit_code == 0
    (tmp_path / "l.toml").write_text('poll_results = "all_of/{execution_id}.json"\n')
    (theirs,) = tmp_path.glob("r/objects/poll_results/*/poll_results.json")
    (tmp_path / "r" / "objects" / "all_of").mkdir()
    torn = theirs.rename(tmp_path / "r" / "objects" / "all_of" / f"{theirs.parent.name}.json")
    whole = torn.read_bytes()
    torn.write_bytes(b"[")
    named = (*there, "--layout", "l.toml")
    ended = run("verify", "check", "-q", *named)
    assert (
        f"next: embedpipe verify repair plan --out repair.json {' '.join(named[2:])} {' '.join(there)}" in ended.stdout
    )
    assert run("verify", "repair", "plan", "--out", "p.json", *named).exit_code == 0
    refused = run("verify", "repair", "apply", "p.json", *there)
    assert (refused.exit_code, "This plan is for " in refused.stderr) == (2, True)
    applied = run("verify", "repair", "apply", "p.json", *named)
    assert f"Next: embedpipe verify check {' '.join(named[2:])} {' '.join(there)}" in applied.stdout
    assert torn.read_bytes() == whole
    assert run("verify", "check", "-q", *named).exit_code == 0


def test_each_error_is_one_sentence_and_has_its_exit_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_text("a note on tea\n")
    for root in ("r", "s"):
        assert run("run", "n.txt", "--format", "text", "-q", "--root", root).exit_code == 0
    (torn,) = tmp_path.glob("r/objects/poll_results/*/poll_results.json")
    torn.write_bytes(b"[")
    run("verify", "repair", "plan", "--out", "p.json", "--root", "r")
    text = (tmp_path / "p.json").read_text()
    (tmp_path / "edited.json").write_text(text.replace('"write"', '"quarantine"'))
    (tmp_path / "newer.json").write_text(text.replace('"format": 1', '"format": 2'))
    for plan, root, code, said in (
        ("p.json", "s", 2, "error: This plan is for objects=files:"),
        ("edited.json", "r", 7, "error: edited.json was changed after it was planned."),
        ("newer.json", "r", 7, "error: newer.json has format 2; this version reads 1."),
        ("p.json", "nowhere", 2, "nothing is there."),
    ):
        ended = run("verify", "repair", "apply", plan, "--root", root)
        assert (ended.exit_code, said in ended.stderr, ended.stdout) == (code, True, ""), ended.stderr
        assert "Traceback" not in ended.stderr
    run("verify", "repair", "plan", "--out", "none.json", "--root", "s")
    assert run("verify", "repair", "apply", "none.json", "--root", "s").stdout.startswith("0 actions, 0 things")
    run("verify", "repair", "apply", "p.json", "--root", "r")
    (entry,) = tmp_path.glob("r/objects/quarantine/*/000000.json")
    entry.write_text(entry.read_text().replace(torn.parent.name, "another"))
    ended = run("verify", "repair", "apply", "p.json", "--root", "r")
    assert (ended.exit_code, "is of another plan." in ended.stderr) == (7, True)
    ended = run("verify", "repair", "undo", entry.parent.name, "--root", "s")
    assert (ended.exit_code, f"There is no journal '{entry.parent.name}'" in ended.stderr) == (2, True)


def test_what_is_no_plan_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("[]")
    assert "no plan of repair" in run("verify", "repair", "apply", "p.json").stderr
    assert run("verify", "repair", "apply", "none.json").exit_code == 2
    assert run("verify", "repair", "undo", "nobody", "--root", "r").exit_code == 2
