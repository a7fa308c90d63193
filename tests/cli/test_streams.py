"""Streams that are closed, full, or lack a character: the work is done all the same, and no command ends as a bug of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    """A command line in bash, `embedpipe` being this one."""
    ours = f'embedpipe() {{ "{sys.executable}" -m embedpipe "$@"; }}; '
    return subprocess.run(["bash", "-c", ours + command], cwd=folder, capture_output=True, check=False, timeout=120)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes.txt").write_text("café au lait\nthe moon\n")
    return tmp_path


@pytest.mark.parametrize("redirect", ["<&-", "2>&-", "2>/dev/full", "2> >(exit 0)"])
def test_the_work_is_done_whatever_the_streams(notes: Path, redirect: str) -> None:
    done = shell(notes, f"embedpipe run notes.txt --json {redirect}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["embedded"] == 2


def test_a_closed_stdout_is_no_error(notes: Path) -> None:
    assert shell(notes, "embedpipe run notes.txt >&-").returncode == 0
    assert json.loads(shell(notes, "embedpipe status --json").stdout)["collection_count"] == 2


def test_a_closed_stdin_is_refused_where_it_is_to_be_read(notes: Path) -> None:
    done = shell(notes, "embedpipe run - <&-")
    assert done.returncode == 5
    assert b"Standard input is closed" in done.stderr


def test_a_terminal_without_a_character_shows_its_number(notes: Path) -> None:
    assert shell(notes, "embedpipe run notes.txt").returncode == 0
    done = shell(notes, "PYTHONIOENCODING=ascii embedpipe search coffee")
    assert done.returncode == 0, done.stderr
    assert rb"caf\xe9" in done.stdout


@pytest.mark.parametrize(
    ("command", "code"), [(r"run $'x\xff.txt'", 5), (r"search $'\xff'", 5), (r"config show --set kind=$'\xff'", 2)]
)
def test_what_is_not_unicode_is_refused_in_one_sentence(notes: Path, command: str, code: int) -> None:
    done = shell(notes, f"embedpipe {command} --json")
    assert (done.returncode, done.stderr.count(b"\n")) == (code, 1), done.stderr
    assert json.loads(done.stdout)["error"]["exit_code"] == code
