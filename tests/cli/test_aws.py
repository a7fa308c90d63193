"""`embedpipe aws template` writes what a deployment is built from, and never over somebody's changes."""

from __future__ import annotations

import json
from pathlib import Path

from embedpipe.aws.template import files, template
from embedpipe.model import WORD
from tests.cli.conftest import Run


def test_it_writes_all_files_and_does_not_write_over_changes(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    arguments = ("aws", "template", "--kind", "word", "--out", str(out))
    assert run(*arguments, "--json").exit_code == 0
    assert {path.name for path in out.iterdir()} == set(files(WORD))
    assert json.loads((out / "template.json").read_text()) == template(WORD)
    assert run(*arguments).exit_code == 0
    (out / "Dockerfile").write_text("FROM mine\n")
    refused = run(*arguments)
    assert refused.exit_code == 5
    assert "--force" in refused.stderr
    assert (out / "Dockerfile").read_text() == "FROM mine\n"
    assert run(*arguments, "--force").exit_code == 0
    assert (out / "Dockerfile").read_text() == files(WORD)["Dockerfile"]
    assert not (tmp_path / ".embedpipe").exists()
