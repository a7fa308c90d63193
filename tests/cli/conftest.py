"""Running the command line in this process, in an empty directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from embedpipe.cli import cli


@attrs.frozen
class Ended:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Stdout as the one JSON document it has to be."""
        return json.loads(self.stdout)


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `embedpipe` with these arguments; `stdin` is what it reads."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str | Path, stdin: str | bytes = "") -> Ended:
        result = CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, prog_name="embedpipe")
        return Ended(result.exit_code, result.stdout, result.stderr)

    return call
