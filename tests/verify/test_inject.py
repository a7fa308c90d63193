"""`embedpipe verify inject`: faults in a copy of a real root on this machine, found by `check` under their code."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from embedpipe.cli import cli
from embedpipe.config import Config
from verify.audit.catalogue import RULES
from verify.inject.ground import CannotPlant
from verify.inject.injecting import ON_AWS, PLANTED, inject

NEVER_LOCAL = {"R102"}
"""It takes records that are submitted again, and the local model embeds each at once."""


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="embedpipe")


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two submissions that have ended, several batches each, and one that is open."""
    folder = tmp_path_factory.mktemp("made")
    root = folder / "root"
    root.mkdir()
    (root / "embedpipe.toml").write_text("[limits]\nrequests_per_batch = 3\n")
    for name, lines, verb in (
        ("one", [f"line {at}" for at in range(8)], "run"),
        ("two", ["another"] + [f"line {at}" for at in range(1, 8)], "run"),
        ("three", [f"open {at}" for at in range(4)], "submit"),
    ):
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        ended = call(verb, folder / f"{name}.txt", "--root", root, "-q")
        assert ended.exit_code == 0, ended.stderr
    return root


def findings(copy: Path) -> list[dict[str, object]]:
    ended = call("verify", "check", "--root", copy, "--depth", "vectors", "--grace", "0", "--format", "jsonl", "-q")
    found = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    return [line for line in found if "code" in line]


def test_every_code_is_planted_or_says_why_not(root: Path, tmp_path: Path) -> None:
    """Each is planted in a copy, found there under its code for its batches, and the root stays as it is."""
    before = contents(root)
    config = Config.load(root)
    refused: dict[str, str] = {}
    for code in PLANTED:
        copy = tmp_path / code
        try:
            made = inject(code, config, copy)
        except CannotPlant as error:
            refused[code] = error.message
            assert not copy.exists()
            continue
        assert made.changed
        found = [line for line in findings(copy) if line["code"] == code]
        named = {name for line in found for name in line["batch_ids"]}  # type: ignore[attr-defined]
        assert found, (code, made)
        assert set(made.batch_ids) <= named or not made.batch_ids, (code, made, found)
        shutil.rmtree(copy)
    assert contents(root) == before
    assert set(refused) == NEVER_LOCAL, refused


def test_the_command_line(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    ended = call("verify", "inject", "B701", "--root", root, "--out", copy)
    assert ended.exit_code == 0, ended.stderr
    assert "  changed " in ended.stdout
    following = ended.stdout.split("Next: embedpipe ")[1].split()
    assert call(*following).exit_code == 1
    again = call("verify", "inject", "B701", "--root", root, "--out", copy)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    inside = call("verify", "inject", "B701", "--root", root, "--out", root / "copy")
    assert inside.exit_code == 2
    assert "inside the root" in inside.stderr


@pytest.mark.parametrize("code", sorted(ON_AWS))
def test_what_only_aws_keeps_says_so(root: Path, code: str) -> None:
    ended = call("verify", "inject", code, "--root", root)
    assert ended.exit_code == 2
    assert "only AWS keeps" in ended.stderr


def test_an_odd_question_has_an_answer(root: Path, tmp_path: Path) -> None:
    assert "B701" in call("verify", "inject", "--list").stdout
    assert "B70" in call("verify", "inject", "B799", "--root", root).stderr
    assert "variant" in call("verify", "inject", "B701", "--variant", "x", "--root", root).stderr
    assert call("verify", "inject", "--root", root).exit_code == 2
    assert call("verify", "inject", "B701", "--root", tmp_path / "none").exit_code == 2
    assert set(PLANTED) | ON_AWS <= set(RULES)


def test_a_root_that_is_damaged_already_is_said_to_be(root: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(root, damaged, symlinks=True)
    hit = list((damaged / "objects").rglob("poll_results.json"))
    assert hit
    for path in hit:
        path.write_bytes(b"[{")
    ended = call("verify", "inject", "P204", "--root", damaged, "--out", tmp_path / "copy")
    assert ended.exit_code == 3
    assert "damaged already" in ended.stderr
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("variant", ["counts_ahead_of_lines", "no_output_file"])
def test_what_a_local_provider_can_not_be_made_to_say_is_refused(root: Path, tmp_path: Path, variant: str) -> None:
    """What is planted is found; else nothing is."""
    ended = call("verify", "inject", "O104", "--variant", variant, "--root", root, "--out", tmp_path / "copy")
    if ended.exit_code == 0:
        assert "O104" in {line["code"] for line in findings(tmp_path / "copy")}
    assert ended.exit_code == (0 if variant == "counts_ahead_of_lines" else 3), ended.stderr


def test_the_next_command_ends_with_one(root: Path, tmp_path: Path) -> None:
    """Also where the finding is a note."""
    ended = call("verify", "inject", "P207", "--root", root, "--out", tmp_path / "copy")
    following = ended.stdout.split("Next: embedpipe ")[1].split()
    assert call(*following).exit_code == 1


def test_the_only_kind_of_a_root_need_not_be_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one\ntwo\n")
    root, copy = tmp_path / "root", tmp_path / "copy"
    assert call("run", tmp_path / "x.txt", "--root", root, "--kind", "notes", "-q").exit_code == 0
    assert call("verify", "inject", "V601", "--root", root, "--out", copy).exit_code == 0
    assert [line["code"] for line in findings(copy)] == ["V601"]
    shutil.rmtree(copy)
    ended = call("verify", "inject", "V601", "--root", root, "--out", copy, "--kind", "others")
    assert (ended.exit_code, copy.exists()) == (2, False)
    assert "Name one with --kind: notes" in ended.stderr
