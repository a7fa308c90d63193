"""The documentation does what it says: examples run, commands exist, links lead somewhere, generated parts are fresh."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from embedpipe import Config
from embedpipe.cli import cli
from tests.docs.generated import PARTS, regenerated
from tests.docs.pages import GENERATED, PAGES, ROOT, Block, anchors, blocks, examples, files, inline_code, links
from verify.audit.files import read_layout, read_suppressions

pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
MODULES = {path.stem for path in (ROOT / "embedpipe").iterdir()}
SUFFIXES = (".json", ".jsonl", ".toml", ".arrow", ".py", ".sqlite3")
LANGUAGES = {"python", "sh", "text", "toml", "json", "mermaid"}
SHELL_WORDS = {"until", "while", "do", "done"}
PLAIN_COMMANDS = {"git", "cd", "pip", "sleep", "aws", "sam", "moto_server"}


# --- examples ------------------------------------------------------------------------------------------------------


@pages
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All Python blocks of a page, in order, in one namespace, in a directory that has the page's files."""
    page = path.read_text()
    for name, text in files(page).items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block, said in examples(page):
        printed = run(block, path, namespace)
        assert said is None or printed == said, f"{path.name}:{block.line} prints something else"


def run(block: Block, path: Path, namespace: dict[str, Any]) -> str:
    # The line numbers of a traceback are then those of the page.
    compiled = compile("\n" * (block.line - 1) + block.text, str(path), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compiled, namespace)  # noqa: S102  our own pages
    return out.getvalue()


@pages
def test_settings_files_are_read(path: Path, tmp_path: Path) -> None:
    """Each block of settings is a whole file, without unknown keys or wrong types; so are the files of the auditor."""
    readers: dict[str | None, Callable[[Path], object]] = {
        "their-layout.toml": read_layout,
        "known.toml": read_suppressions,
    }
    for block in blocks(path.read_text()):
        if block.language == "toml":
            file = tmp_path / "embedpipe.toml"
            file.write_text(block.text)
            readers.get(block.title, lambda file: Config.load(file=file, env={}))(file)


@pages
def test_a_block_says_its_language(path: Path) -> None:
    assert {block.language for block in blocks(path.read_text())} <= LANGUAGES


# --- commands ------------------------------------------------------------------------------------------------------


def commands(page: str) -> list[list[str]]:
    """The commands of all shell blocks, as words; pipes and loops are taken apart."""
    found: list[list[str]] = []
    for block in blocks(page):
        for line in block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            found.append([])
            for word in lexer:
                if word in SHELL_WORDS or not word.strip(lexer.punctuation_chars):
                    found.append([])
                elif found[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
                    found[-1].append(word)
    return [words for words in found if words]


@pages
def test_commands_exist(path: Path, tmp_path: Path) -> None:
    for words in commands(path.read_text()):
        name = words[0].removeprefix(".venv/bin/")
        if name == "embedpipe":
            check_embedpipe(words[1:])
        elif name == "make":
            check_make(words[1:])
        elif name == "pytest":
            check_pytest(words[1:], path, tmp_path)
        else:
            assert name in PLAIN_COMMANDS, words


def check_embedpipe(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    # Parsing finds unknown options, missing values and missing arguments, and calls nothing.
    command.make_context("embedpipe", words, resilient_parsing="--help" in words)


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


def check_pytest(words: list[str], path: Path, tmp_path: Path) -> None:
    """Really run, on the files of the page."""
    for name, text in files(path.read_text()).items():
        (tmp_path / name).write_text(text)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3_000:] + ended.stderr[-1_000:]


# --- links and names -----------------------------------------------------------------------------------------------


@pages
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path.read_text()):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        assert not anchor or anchor in anchors(found.read_text()), link


@pages
def test_files_that_are_named_exist(path: Path) -> None:
    """`stages/poll.py` is below a package, `tests/unit` below the root."""
    named = [name for name in inline_code(path.read_text()) if re.fullmatch(r"[a-z_]+(/[a-z_0-9]+)*(/|\.py)", name)]
    ours = [name for name in named if name not in files(path.read_text())]
    homes = [ROOT, ROOT / "embedpipe", ROOT / "verify"]
    assert [name for name in ours if not any((home / name).exists() for home in homes)] == []


@pages
def test_names_that_are_named_exist(path: Path) -> None:
    """`lifecycle.diagram()`, `embedpipe.ports`, and settings such as `run.threads`."""
    settings = Config.load(env={}).origins.keys()
    named = [
        found[0]
        for code in inline_code(path.read_text())
        if (found := re.fullmatch(r"([a-z_]+(\.\w+)+)(\(.*\))?", code))
    ]
    dotted = [name.partition("(")[0] for name in named]
    homes = MODULES | {"embedpipe", "verify"} | {key.partition(".")[0] for key in settings}
    ours = [name for name in dotted if name.partition(".")[0] in homes and not name.endswith(SUFFIXES)]
    assert [name for name in ours if name not in settings and not resolves(name)] == []


def resolves(name: str) -> bool:
    parts = name.split(".")
    parts = parts if parts[0] in ("embedpipe", "verify") else ["embedpipe", *parts]
    for size in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            value = importlib.import_module(".".join(parts[:size]))
            for part in parts[size:]:
                value = getattr(value, part, None)
            return value is not None
    return False


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {
        (ROOT / link.partition("#")[0]).resolve()
        for link in links((ROOT / "README.md").read_text())
        if "://" not in link
    }
    assert {path for path in PAGES if path.name != "README.md"} <= linked


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 100


# --- what is made from the code ------------------------------------------------------------------------------------


@pages
def test_generated_parts_are_fresh(path: Path) -> None:
    page = path.read_text()
    assert page == regenerated(page), "write them anew: python -m tests.docs.generated"


def test_every_generated_part_stands_somewhere() -> None:
    found = [part["name"] for path in PAGES for part in GENERATED.finditer(path.read_text())]
    assert sorted(found) == sorted(PARTS)


# --- the protocol is told whole ------------------------------------------------------------------------------------

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("number", range(1, 21))
def test_every_trace_is_told_and_tested(number: int) -> None:
    assert re.search(rf"\bT{number}\b", PROTOCOL)
    assert f"def test_t{number:02}_" in (ROOT / "tests" / "protocol" / "test_traces.py").read_text()


@pytest.mark.parametrize("number", range(1, 11))
def test_every_guarantee_is_told_and_has_a_predicate(number: int) -> None:
    assert re.search(rf"\*\*G{number}\b", PROTOCOL)
    assert f"def g{number}_" in (ROOT / "verify" / "invariants.py").read_text()
