"""`embedpipe aws template` writes what a deployment is built from, and never over somebody's changes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from embedpipe.aws.settings import PATH, Choices, choices
from embedpipe.aws.template import files, template
from embedpipe.config import Config
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


def test_what_is_set_goes_with_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("""
        [objects]
        backend = "s3"
        bucket = "elsewhere"
        [provider]
        backend = "openai"
        model = "text-embedding-3-large"
        dimensions = 256
        send_dimensions = true
        [limits]
        creates_per_minute = 30
        [retry]
        attempts = 3
        [layout]
        index_name = "ByStatus"
        manifest = "lists/{execution_id}/a \\" b.json"
        statuses = { PENDING = "OPEN" }
    """)
    arguments = ("--config", str(tmp_path / "mine.toml"), "--kind", "word")
    assert run("aws", "template", *arguments, "--out", str(tmp_path / "deploy")).exit_code == 0
    mine = Config.load(file=tmp_path / "mine.toml", env={})
    made = template(WORD, choices(mine, "rate(15 minutes)"))
    assert json.loads((tmp_path / "deploy" / "template.json").read_text()) == made
    given = made["Globals"]["Function"]["Environment"]["Variables"]
    env = {name: value if isinstance(value, str) else "filled in" for name, value in given.items()}
    env |= {"EMBEDPIPE_CONFIG": str(tmp_path / "deploy" / "embedpipe.toml"), "EMBEDPIPE_PROVIDER__DIMENSIONS": "256"}
    theirs = Config.load(env=env)
    assert (theirs.layout, theirs.limits, theirs.retry) == (mine.layout, mine.limits, mine.retry)
    assert [made["Parameters"][name]["Default"] for name in ("Model", "Dimensions")] == ["text-embedding-3-large", 256]
    assert theirs.model.send_dimensions
    assert (theirs.objects.options["bucket"], theirs.kind) == ("filled in", "word")
    assert "elsewhere" not in (tmp_path / "deploy" / "embedpipe.toml").read_text()


def test_written_anew_with_its_own_file_the_settings_stay(run: Run, tmp_path: Path) -> None:
    """Those of the provider, too, which mean nothing without its backend; the model is a parameter of the stack."""
    out = tmp_path / "deploy"
    (tmp_path / "mine.toml").write_text("""
        [provider]
        backend = "openai"
        base_url = "https://mine.openai.azure.com"
        model = "deployed"
        dimensions = 256
        send_dimensions = true
        api_version = "2026-01-01"
        [limits]
        creates_per_minute = 30
    """)
    arguments = ("aws", "template", "--kind", "word", "--out", str(out), "--config")
    assert run(*arguments, str(tmp_path / "mine.toml")).exit_code == 0
    before = (out / "embedpipe.toml").read_text()
    assert run(*arguments, str(out / "embedpipe.toml"), "--force").exit_code == 0
    assert (out / "embedpipe.toml").read_text() == before
    parameters = json.loads((out / "template.json").read_text())["Parameters"]
    assert [parameters[name]["Default"] for name in ("Model", "Dimensions")] == ["text-embedding-3-small", 1536]


def test_the_image_has_every_file_that_it_names() -> None:
    """The Dockerfile copies what lies beside it, to where the functions look for it."""
    copied = re.findall(r"^COPY (\S+) \$\{LAMBDA_TASK_ROOT\}/$", str(files(WORD)["Dockerfile"]), re.MULTILINE)
    assert copied == ["embedpipe.toml"]
    assert set(copied) <= set(files(WORD))
    assert template(WORD)["Globals"]["Function"]["Environment"]["Variables"]["EMBEDPIPE_CONFIG"] == PATH


def test_mark_is_given_the_key_only_where_it_deletes_files(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[policy]\ndelete_provider_files = true\n")
    deleting = choices(Config.load(file=tmp_path / "mine.toml", env={}), "rate(15 minutes)")
    for chosen, given in ((deleting, True), (Choices(), False)):
        properties = template(WORD, chosen)["Resources"]["MarkCompleteFunction"]["Properties"]
        assert ("OPENAI_API_KEY" in properties.get("Environment", {}).get("Variables", {})) == given
