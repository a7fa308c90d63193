"""A damaged object of the root ends a command with one sentence: which file it is, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run

OBJECTS = {
    "embedpipe.json": ("status", "search x", "run x.txt", "ingest"),
    "record/submissions/record/head.json": ("run x.txt", "submit x.txt", "ingest"),
    "record/snapshot/latest.json": ("status", "search x", "run x.txt"),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "an array": lambda _: b"[]",
    "newer": lambda _: b'{"schema": 99}',
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("key", OBJECTS)
def test_a_damaged_object_is_named_with_what_to_do(run: Run, tmp_path: Path, key: str, damage: str) -> None:
    (tmp_path / "x.txt").write_text("one line\n")
    assert run("run", "x.txt").exit_code == 0
    path = tmp_path / ".embedpipe" / "objects" / key
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    (tmp_path / "x.txt").write_text("another line\n")
    for command in OBJECTS[key] if damage == "truncated" else OBJECTS[key][:1]:
        ended = run(*command.split())
        assert (command, ended.exit_code) == (command, 7), ended
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: {key}")
        assert ("Upgrade embedpipe." if damage == "newer" else ". Restore it from a backup ('files' objects") in line
    path.write_bytes(whole)
    assert run("run", "x.txt").exit_code == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_costs_nothing_but_a_newer_one_stops(run: Run, tmp_path: Path, damage: str) -> None:
    """What it said is found out again: the rows of batches that are open are not trusted."""
    (tmp_path / "x.txt").write_text("one line\n")
    assert run("run", "x.txt").exit_code == 0
    path = tmp_path / ".embedpipe" / "objects" / "record" / "snapshot" / "merging.json"
    path.write_bytes(DAMAGES[damage](b'{"execution_id":"e","intermediates":[],"deltas":[],"started_at":""}'))
    (tmp_path / "x.txt").write_text("another line\n")
    ended = run("run", "x.txt", "--json")
    if damage == "newer":
        assert ended.exit_code == 7
        assert "record/snapshot/merging.json has schema 99" in ended.stderr
        return
    assert (ended.exit_code, ended.document["collection_count"], path.exists()) == (0, 2, False)
