"""The wheel, installed alone: small, importable, helpful about what is missing, and quick to say so.

Builds the wheel from the working copy and installs it with the base dependencies into an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE_BYTES_MAX = 25_000_000
HEAVY = ("boto3", "chromadb", "numpy", "openai", "pyarrow")
ENV = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "COVERAGE"))}


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=cwd, env=ENV, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # --no-build-isolation: hatchling is a development dependency, so no second one is fetched.
    built = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("embedpipe-*.whl"))


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    site = next(folder.glob("lib/python*/site-packages"))
    before = {path.name for path in site.iterdir()}
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    installed = run(*pip, wheel)
    assert installed.returncode == 0, installed.stderr
    (folder / "before").write_text("\n".join(before))
    return folder


def test_the_wheel_has_our_packages_typed_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"embedpipe", "verify", "simulator"}
    assert {"embedpipe/py.typed", "verify/py.typed", "simulator/py.typed"} <= set(names)
    assert {"verify/formats/page/page.css", "verify/formats/page/page.js"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_base_install_is_small(home: Path) -> None:
    site = next(home.glob("lib/python*/site-packages"))
    before = set((home / "before").read_text().split())
    size_bytes = sum(
        path.stat().st_size
        for top in site.iterdir()
        if top.name not in before
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file()
    )
    assert size_bytes <= SITE_BYTES_MAX


@pytest.mark.parametrize("module", ["embedpipe", "embedpipe.stages", "verify", "embedpipe.cli"])
def test_it_imports_without_extras(home: Path, module: str) -> None:
    code = f"import sys, {module}; sys.exit(str(sorted({{*{HEAVY!r}}} & set(sys.modules))))"
    assert run(home / "bin" / "python", "-W", "error", "-c", code).stderr.strip() == "[]"


def test_help_and_version_work(home: Path) -> None:
    shown = run(home / "bin" / "embedpipe", "--help")
    assert shown.returncode == 0
    assert "Exit codes" in shown.stdout
    assert run(home / "bin" / "embedpipe", "--version").stdout == "embedpipe 0.1.0\n"
    assert run(home / "bin" / "python", "-m", "embedpipe", "--help").stdout == shown.stdout


@pytest.mark.parametrize(
    "command", ["init", "run", "estimate", "submit", "ingest", "status", "search", "config", "serve", "demo"]
)
def test_the_help_of_each_command_works(home: Path, command: str) -> None:
    shown = run(home / "bin" / "embedpipe", command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_missing_extra_is_one_sentence_that_names_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello\n")
    ended = run(home / "bin" / "embedpipe", "run", "x.txt", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "is not installed. Install it with: pip install 'embedpipe[" in ended.stderr
