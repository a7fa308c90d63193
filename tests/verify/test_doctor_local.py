"""`embedpipe verify doctor` over a local root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from embedpipe.cli import cli


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="embedpipe")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "x.txt").write_text("one line\nanother line\n")
    ended = call("run", tmp_path / "x.txt", "--root", tmp_path / "root", "-q")
    assert ended.exit_code == 0, ended.stderr
    return tmp_path / "root"


def test_a_root_that_can_be_read(root: Path) -> None:
    ended = call("verify", "doctor", "--root", root, "--json")
    seen = json.loads(ended.stdout)
    outcomes = {(read["source"], read["outcome"]) for read in seen["reads"]}
    assert outcomes == {(name, "ok") for name in ("objects", "table", "vectors", "provider")} | {
        (name, "out of scope") for name in ("histories", "logs")
    }
    assert "collection records" in ended.stdout or "opens" in ended.stdout
    assert (ended.exit_code, seen["exit_code"]) == (0, 0)


def test_the_kinds_of_the_root_are_looked_at(root: Path) -> None:
    """Without --kind those that it has, whatever the configuration's is."""
    (root.parent / "y.txt").write_text("a third line\n")
    assert call("run", root.parent / "y.txt", "--root", root.parent / "other", "--kind", "notes", "-q").exit_code == 0
    ended = call("verify", "doctor", "--root", root.parent / "other")
    assert (ended.exit_code, "nothing is published" in ended.stdout, "notes" in ended.stdout) == (0, False, True)


def test_a_damaged_result_and_a_lost_table(root: Path) -> None:
    (result,) = [path for path in (root / "objects").rglob("result.json*") if path.is_file()]
    result.write_text("{")
    (root / "table.sqlite3").write_bytes(b"no database")
    ended = call("verify", "doctor", "--root", root)
    failed = [line for line in ended.stdout.splitlines() if line.startswith("failed")]
    assert ended.exit_code == 3
    assert any("result.json" in line for line in failed)
    assert any("table" in line for line in failed)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    assert call("verify", "doctor", "--root", tmp_path / "none").exit_code == 2
