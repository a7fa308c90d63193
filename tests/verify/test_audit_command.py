"""`embedpipe verify check` and `explain` as an operator calls them, over a root that a run has made."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import signal
import sqlite3
from contextlib import closing, redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from embedpipe.cli import cli
from tests.verify.auditing import CtrlC
from verify.audit import command
from verify.audit.catalogue import RULES
from verify.audit.estimate import Estimate
from verify.audit.options import Progress


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="embedpipe")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with three records in two batches."""
    home = tmp_path_factory.mktemp("made")
    (home / "x.txt").write_text("one line\nanother line\na third line\n")
    ended = call("run", home / "x.txt", "--root", home / "root", "-q", "--set", "limits.requests_per_batch=2")
    assert ended.exit_code == 0, ended.stderr
    return home / "root"


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "root", symlinks=True))


def files(root: Path, ending: str) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name.endswith(ending))


def contents(root: Path) -> dict[Path, bytes]:
    """What we keep there. Chroma writes to its own bookkeeping whenever its files are opened."""
    ours = [path for path in files(root, "") if "chroma" not in path.parts]
    return {path: path.read_bytes() for path in ours if not path.name.endswith(("-wal", "-shm"))}


@pytest.mark.parametrize("depth", ["metadata", "content", "vectors"])
def test_a_healthy_root_is_clean_and_stays_as_it_is(root: Path, depth: str) -> None:
    before = contents(root)
    ended = call("verify", "check", "--root", root, "--depth", depth)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("CLEAN: ")
    assert contents(root) == before


def damage(root: Path) -> str:
    """Tear one register; the batch it is of."""
    path = files(root, "result.json")[0]
    path.write_bytes(path.read_bytes()[:50])
    return path.parent.name


def test_a_torn_register_is_found_and_named(root: Path, tmp_path: Path) -> None:
    batch_id = damage(root)
    xml, lines, page = (tmp_path / f"audit.{ending}" for ending in ("xml", "jsonl", "html"))
    outputs = [part for each in (f"junit={xml}", f"jsonl={lines}", f"html={page}") for part in ("--format", each)]
    ended = call("verify", "check", "--root", root, *outputs)
    assert ended.exit_code == 1
    assert "P202 error: a poll result can't be read" in ended.stdout
    assert f"batches: {batch_id}" in ended.stdout
    assert f"next: embedpipe verify repair plan --out repair.json --root {root}\n" in ended.stdout
    assert "<failure" in xml.read_text()
    assert f"embedpipe verify repair plan --out repair.json --root {root}" in page.read_text()
    assert json.loads(lines.read_text().splitlines()[0])["next_command"].endswith(f"--root {root}")
    assert f"<code>{batch_id}</code>" in page.read_text()
    assert json.loads(lines.read_text().splitlines()[1])["batch_ids"] == [batch_id]
    document: Any = json.loads(call("verify", "check", "--root", root, "--json").stdout)
    assert (document["verdict"], document["exit_code"]) == ("findings", 1)
    assert call("verify", "check", "--root", root, "--fail-on", "critical").exit_code == 3
    assert call("verify", "check", "--root", root, "--ignore", "P202").exit_code == 3


def test_the_next_command_asks_the_same_of_the_same(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the options of the audit, each as a shell takes it, and without those that only say how to tell it."""
    monkeypatch.chdir(tmp_path)
    odd = root.rename(tmp_path / "it's my root")
    damage(odd)
    known = tmp_path / "known.toml"
    known.write_text('[[suppress]]\nobject = "nobody"\nreason = "none"\nexpires = 2100-01-01\n')
    asked = ["--root", odd, "--kind", "record", "--set", "limits.requests_per_batch=2", "--depth", "vectors"]
    asked += ["--select", "P, D", "--select", "R", "--ignore", "P207", "--grace", "5", "--since", "7d"]
    asked += ["--scope", "objects,table", "--suppressions", known]
    ended = call("verify", "check", *asked, "--format", f"html={tmp_path / 'x.html'}", "--fail-on", "error", "-q")
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("next: ")]
    words = shlex.split(line.removeprefix("next: "))
    assert words[:5] == ["embedpipe", "verify", "repair", "plan", "--out"]
    pairs = dict(zip(words[6::2], words[7::2], strict=True))
    assert pairs == {
        "--root": str(odd),
        "--kind": "record",
        "--set": "limits.requests_per_batch=2",
        "--depth": "vectors",
        "--select": "P,D,R",
        "--ignore": "P207",
        "--grace": "5.0",
        "--since": "7d",
        "--scope": "objects,table",
        "--suppressions": str(known),
    }
    planned = call(*words[1:])
    assert planned.exit_code == 0
    mended = {
        code for action in json.loads((tmp_path / "repair.json").read_text())["actions"] for code in action["mends"]
    }
    assert mended == {"P202"}


def test_what_no_action_mends_is_explained(root: Path) -> None:
    (head,) = files(root, "snapshot.json")[-1:]
    head.unlink()
    ended = call("verify", "check", "--root", root, "--select", "S501")
    assert "next: embedpipe verify explain S501" in ended.stdout


def test_a_suppressed_finding_does_not_fail(root: Path, tmp_path: Path) -> None:
    batch_id = damage(root)
    known = tmp_path / "known.toml"
    known.write_text(f'[[suppress]]\nobject = "{batch_id}"\nreason = "polled again tonight"\nexpires = 2100-01-01\n')
    ended = call("verify", "check", "--root", root, "--suppressions", known, "--depth", "metadata")
    assert ended.exit_code == 0
    ended = call("verify", "check", "--root", root, "--suppressions", known)
    assert "suppressed: 1 findings" in ended.stdout
    known.write_text(f'[[suppress]]\nobject = "{batch_id}"\nexpires = 2100-01-01\n')
    ended = call("verify", "check", "--root", root, "--suppressions", known)
    assert (ended.exit_code, "has no 'reason'" in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--root", "nowhere"), "nothing is there"),
        (("--root", "{empty}"), "has neither objects nor a table"),
        (("--root", "{root}", "--select", "P999"), "There is no finding 'P999'"),
        (("--root", "{root}", "--format", "pdf"), "is no format"),
        (("--root", "{root}", "--layout", "{odd}"), "Did you mean 'poll_results'?"),
        (("--root", "{root}", "--scope", "moon"), "There is no source 'moon'"),
        (("--root", "{root}", "--since", "soon"), "neither a time nor an age"),
        (("--root", "{root}", "--suppressions", "absent.toml"), "there is no such file"),
    ],
    ids=lambda value: value[-2].strip("-") if isinstance(value, tuple) else "",
)
def test_a_wrong_question_ends_with_one_sentence(
    root: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    odd = tmp_path / "odd.toml"
    odd.write_text('poll_result = "results/{execution_id}.json"\n')
    ended = call("verify", "check", *(one.format(root=root, odd=odd, empty=empty) for one in arguments))
    assert ended.exit_code == 2
    assert said in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "misspelt"), "No ledger and no batch of this kind was found"),
        (("--execution", "misspelt"), "Nothing of this execution was found"),
    ],
)
def test_a_name_of_nothing_is_never_clean(root: Path, arguments: tuple[str, ...], said: str) -> None:
    ended = call("verify", "check", "--root", root, *arguments)
    assert (ended.exit_code, said in ended.stdout) == (3, True)
    assert "were left out" in ended.stdout


def test_what_found_nothing_to_check_says_so(tmp_path: Path) -> None:
    """A root that was only begun, and one whose objects and table are gone."""
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "embedpipe.toml").write_text("")
    page = tmp_path / "page.html"
    ended = call("verify", "check", "--root", begun, "--format", f"html={page}")
    assert (ended.exit_code, "Nothing in scope was there" in page.read_text()) == (0, True)
    assert call("verify", "check", "--root", begun).stdout.startswith("EMPTY: ")
    (begun / "chroma").mkdir()
    assert call("verify", "check", "--root", begun).exit_code == 2


def test_a_root_whose_objects_are_gone_is_not_clean(root: Path) -> None:
    """Its rows are found by the kind of the configuration; and without its identity nobody knows whose the batches are."""
    shutil.rmtree(root / "objects")
    ended = call("verify", "check", "--root", root)
    assert (ended.exit_code, "P201" in ended.stdout) == (1, True)
    (root / "embedpipe.toml").write_text('kind = "another"\n')
    assert call("verify", "check", "--root", root).exit_code == 3


def test_a_root_that_lost_its_identity_is_not_clean(root: Path) -> None:
    (root / "objects" / "embedpipe.json").unlink()
    ended = call("verify", "check", "--root", root)
    assert (ended.exit_code, "nobody knows which of the provider's batches" in ended.stdout) == (3, True)


def test_a_row_in_the_index_that_has_no_id_costs_itself_only(root: Path) -> None:
    with closing(sqlite3.connect(root / "table.sqlite3")) as table, table:
        changed = "'BATCH#../x', sk, index_pk, replace(index_sk, substr(pk, 7), '../x'), status, revision, item"
        table.execute(f"INSERT INTO items SELECT {changed} FROM items LIMIT 1")
    ended = call("verify", "check", "--root", root)
    assert (ended.exit_code, "'../x', which is no id" in ended.stdout) == (3, True)


def test_a_dry_run_says_what_would_be_called(root: Path) -> None:
    said = call("verify", "check", "--root", root, "--dry-run", "--depth", "vectors")
    assert (said.exit_code, said.stdout.count("\n")) == (0, 1)
    assert said.stdout.startswith("2 batches at depth vectors: ")
    assert said.stdout.endswith("at no charge\n")
    document: Any = json.loads(call("verify", "check", "--root", root, "--dry-run", "--json").stdout)
    real: Any = json.loads(call("verify", "check", "--root", root, "--json").stdout)
    assert document["calls"] == real["calls"]
    assert document["dollars"] == 0


@pytest.mark.parametrize(
    ("given", "number"), [(None, signal.SIGINT), ("state", signal.SIGINT), ("state", signal.SIGTERM)]
)
def test_an_interruption_names_the_command_that_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, number: signal.Signals
) -> None:
    monkeypatch.setattr(CtrlC, "number", number)
    objects = "objects.backend=tests.verify.auditing:CtrlC", f"objects.root={root}/objects"
    command = ["verify", "check", "--root", str(root), "--depth", "vectors", "--set", objects[0], "--set", objects[1]]
    CtrlC.nth = 10
    ended = call(*command, *(["--resume", tmp_path / given] if given else []))
    assert (ended.exit_code, ended.stdout) == (130, "")
    words = shlex.split(ended.stderr.partition("Go on with: ")[2])
    state = Path(words[-1])
    assert words == ["embedpipe", *command, "--resume", str(state)]
    assert state.exists()
    assert given is None or state == tmp_path / given
    other = call("verify", "check", "--root", root, "--resume", state)
    assert (other.exit_code, "is the state of another audit" in other.stderr) == (2, True)
    ended = call(*words[1:])
    assert (ended.exit_code, ended.stdout[:6]) == (0, "CLEAN:")
    assert not state.exists()


def shown_on(terminal: bool) -> str:
    """What the progress of an audit writes to stderr."""
    reading, writing = pty.openpty() if terminal else os.pipe()
    shown = b""
    with open(writing, "w") as stream, redirect_stderr(stream), command._progress(quiet=False) as (show, tell):
        assert tell is not None
        tell(Estimate(depth="content", batches=1_200, calls={"objects.get": 7_200}, made={}))
        show(Progress(stage="batches", done=100, total=1_200))
        show(Progress(stage="executions", done=3))
        stream.write("END")
        stream.flush()
        while not shown.endswith(b"END"):  # a terminal may pass on a part first
            shown += os.read(reading, 10_000)
    os.close(reading)
    return shown.decode().removesuffix("END")


def test_a_terminal_is_told_what_will_be_called_and_how_far_it_is() -> None:
    shown = shown_on(terminal=True).replace("\r\033[K", "|")
    assert "|1,200 batches at depth content: 7,200 objects.get; at no charge" in shown
    assert shown.endswith("|batches: 100 of 1,200|executions: 3")
    assert shown_on(terminal=False) == ""


def test_explain_knows_every_code() -> None:
    for code in RULES:
        ended = call("verify", "explain", code.lower())
        assert ended.exit_code == 0
        assert ended.stdout.startswith(f"{code} ")
    page = call("verify", "explain", "--all").stdout
    assert all(f"**{code}, " in page for code in RULES)
    assert json.loads(call("verify", "explain", "B701", "--json").stdout)[0]["code"] == "B701"
    assert call("verify", "explain").exit_code == 2
    assert "Did you mean B70" in call("verify", "explain", "B70").stderr
