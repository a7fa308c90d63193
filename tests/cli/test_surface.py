"""What every command has in common: help, exit codes, errors, and a cheap start."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from embedpipe import errors
from embedpipe.cli import app
from embedpipe.cli.commands import COMMANDS, Entry
from embedpipe.cli.verify import COMMANDS as VERIFY
from tests.cli.conftest import Run

HEAVY = {"boto3", "openai", "chromadb", "numpy", "pyarrow", "rich", "attrs", "attr", "cattrs", "msgspec", "wordllama"}
GROUPS = {"config": [("config", "show")], "aws": [("aws", "template")]}
GROUPS["simulate"] = [("simulate", name) for name in ("run", "replay", "shrink", "mutants")]
GROUPS["verify"] = [("verify", name) for name in VERIFY if name != "repair"]
GROUPS["verify"] += [("verify", "repair", name) for name in ("plan", "apply", "undo")]
COMMON = {"--root", "--config", "--kind", "--json", "--set", "--quiet", "--debug", "--help"}


@click.command()
@click.option("--json", is_flag=True)
@click.option("--debug", is_flag=True)
def failing(**_: Any) -> None:
    """Raise what the test put here."""
    raise failing.error  # type: ignore[attr-defined]


@pytest.fixture
def ended_with(run: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(error: BaseException, *args: str) -> Any:
        monkeypatch.setitem(COMMANDS, "fail", Entry(f"{__name__}:failing", "Fail as told."))
        monkeypatch.setattr(failing, "error", error, raising=False)
        return run("fail", *args)

    return call


def commands() -> list[tuple[str, ...]]:
    return [command for name in COMMANDS for command in GROUPS.get(name, [(name,)])]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_command_has_the_common_options_and_an_example(run: Run, command: tuple[str, ...]) -> None:
    shown = run(*command, "--help")
    assert shown.exit_code == 0
    assert {option for option in COMMON if option not in shown.stdout} == set()
    assert "Example" in shown.stdout
    assert f"embedpipe {' '.join(command)}" in shown.stdout


@pytest.mark.parametrize("columns", [60, 200])
@pytest.mark.parametrize("command", [(), *commands()], ids=lambda value: " ".join(value) or "embedpipe")
def test_each_example_has_a_line_of_its_own(run: Run, command: tuple[str, ...], columns: int) -> None:
    found: click.Command = app.cli
    for name in command:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)  # type: ignore[assignment]  # there is one
    said = inspect.cleandoc(str(found.help)).split("\n")
    start = next(at for at, line in enumerate(said) if line.startswith("Example"))
    examples = [line.strip() for line in said[start:] if line.strip()]
    assert len(examples) > 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        shown = run(*command, "--help").stdout
    assert [line for line in examples if line not in map(str.strip, shown.split("\n"))] == []
    assert "\\b" not in shown


def test_help_lists_commands_and_exit_codes(run: Run) -> None:
    shown = run("--help").stdout
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert all(f"  {code} " in shown for code in errors.EXIT_CODES)
    assert run("-h").stdout == shown


def test_help_imports_nothing_it_does_not_need() -> None:
    code = "import sys\nfrom embedpipe.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("Usage: embedpipe")
    assert HEAVY & set(ended.stderr.split()) == set()


@pytest.mark.parametrize("module", ["embedpipe.cli.app", "click", "embedpipe.config", "rich"])
def test_ctrl_c_while_modules_are_imported(tmp_path: Path, module: str) -> None:
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from embedpipe.cli import main\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "config", "show"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (errors.EXIT_INTERRUPTED, "")
    assert ended.stderr.strip() == "error: Interrupted. Run the same command again to go on."


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_the_table_says(name: str) -> None:
    found = app.cli.get_command(click.Context(app.cli), name)
    assert found is not None
    assert found.name == name


def test_an_unknown_command_suggests_another(run: Run) -> None:
    ended = run("serch", "x")
    assert ended.exit_code == errors.EXIT_USAGE
    assert ended.stderr == "error: There is no command 'serch'. Did you mean 'search'? See: embedpipe --help\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("zzz",), "There is no command 'zzz'. See: embedpipe --help"),
        ((), f"Name a command: {', '.join(COMMANDS)}. See: embedpipe --help"),
        (("config",), "Name a command: show. See: embedpipe config --help"),
        (("search", "a", "b"), "Got unexpected extra argument (b). See: embedpipe search --help"),
        (("status", "--set", "=x"), "Invalid value for '--set': '=x' is not KEY=VALUE, such as limits"),
        (
            ("aws", "template", "--out", "d", "--schedule", "daily"),
            "Invalid value for '--schedule': 'daily' is neither",
        ),
        (
            ("estimate", "x", "--price-per-million-tokens", "nan"),
            "Invalid value for '--price-per-million-tokens': nan is",
        ),
        (("estimate", "x", "--price-per-million-tokens", "-1"), "Invalid value for '--price-per-million-tokens': -1.0"),
        (("status", "--config", ""), "The name of the file of settings is empty."),
    ],
    ids=" ".join,
)
def test_misuse_is_one_sentence(run: Run, command: tuple[str, ...], said: str) -> None:
    ended = run(*command)
    assert (ended.exit_code, ended.stdout) == (errors.EXIT_USAGE, "")
    assert ended.stderr.startswith(f"error: {said}")
    assert ended.stderr.count("\n") == ended.stderr.count("See: ") == 1 or "--config" in command


@pytest.mark.parametrize("root", ["file", "file/root", "dangling", "/dev/null"])
@pytest.mark.parametrize("command", ["run x.txt", "estimate x.txt", "status", "init", "ingest", "config show"])
def test_a_root_that_is_no_directory(run: Run, tmp_path: Path, root: str, command: str) -> None:
    for name in ("file", "x.txt"):
        (tmp_path / name).write_text("a line\n")
    (tmp_path / "dangling").symlink_to("nowhere")
    ended = run(*command.split(), "--root", root)
    assert ended.exit_code == errors.EXIT_USAGE
    assert ended.stderr == (
        f"error: flag: root {tmp_path / root}: {tmp_path / root.removesuffix('/root')} is no directory. "
        "Name another place.\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"file", "x.txt", "dangling"}


def test_an_unknown_option_is_a_usage_error(run: Run) -> None:
    ended = run("status", "--rooot", "x", "--json")
    assert ended.exit_code == errors.EXIT_USAGE
    assert ended.document["error"]["code"] == "usage"
    assert "See: embedpipe status --help" in ended.stderr


def test_a_bad_override_is_a_usage_error(run: Run) -> None:
    assert "'limits' is not KEY=VALUE" in run("status", "--set", "limits").stderr


EXAMPLES = [
    (errors.ConfigError("Wrong key.", hint="Use another."), 2),
    (errors.missing_extra("vectors", "pyarrow"), 2),
    (errors.InvalidInput("Line 3 is bad."), 5),
    (errors.DuplicateRecord("Twice."), 5),
    (errors.Unauthorized("Who are you?"), 6),
    (errors.StorageFull("Full."), 6),
    (errors.CorruptData("Torn."), 7),
    (errors.NewerSchema("Newer."), 7),
    (errors.Interrupted("Stopped."), 130),
    (PermissionError(13, "Permission denied", "x"), 6),
    (OSError(28, "No space left on device"), 6),
    (KeyboardInterrupt(), 130),
    (ZeroDivisionError("division by zero"), 4),
    (RuntimeError(), 4),
]


@pytest.mark.parametrize(("error", "exit_code"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_each_error_is_one_sentence_and_one_code(ended_with: Any, error: BaseException, exit_code: int) -> None:
    ended = ended_with(error)
    assert ended.exit_code == exit_code
    assert ended.stdout == ""
    assert ended.stderr.strip().startswith("error: ")  # click ends the line of a ^C first
    assert ended.stderr.strip().count("\n") == 0
    assert exit_code in errors.EXIT_CODES


@pytest.mark.parametrize(("error", "exit_code"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_with_json_each_error_is_an_object(ended_with: Any, error: BaseException, exit_code: int) -> None:
    document = ended_with(error, "--json").document["error"]
    assert set(document) == {"code", "message", "hint", "exit_code", "context"}
    assert document["exit_code"] == exit_code


def test_an_error_of_ours_says_how_to_report_it_and_debug_shows_it(ended_with: Any) -> None:
    assert "Please report it with what the same command prints under --debug." in ended_with(ValueError("x")).stderr
    assert "Traceback (most recent call last)" in ended_with(ValueError("x"), "--debug").stderr


def test_a_message_cannot_write_to_the_terminal(ended_with: Any) -> None:
    ended = ended_with(errors.InvalidInput("bad \x1b[31m\nid \u202e [bold]x[/bold]"))
    assert ended.stderr == "error: bad \\x1b[31m id \\u202e [bold]x[/bold]\n"


def test_all_exit_codes_of_errors_are_documented() -> None:
    def all_of(cls: type[errors.EmbedpipeError]) -> set[int]:
        return {cls.exit_code}.union(*(all_of(sub) for sub in cls.__subclasses__()))

    assert all_of(errors.EmbedpipeError) <= set(errors.EXIT_CODES)


def test_output_into_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m embedpipe config show --json | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "0"
    assert ended.stderr == ""
