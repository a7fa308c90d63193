"""The commands init and config show."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_init_writes_a_file_that_changes_nothing(run: Run, tmp_path: Path) -> None:
    before = run("config", "show", "--json").document["settings"]
    assert run("init").stdout == ".embedpipe/embedpipe.toml: written\n"
    after = run("config", "show", "--json").document["settings"]
    assert after == before
    assert tomllib.loads((tmp_path / ".embedpipe" / "embedpipe.toml").read_text())


def test_init_keeps_what_is_there(run: Run, tmp_path: Path) -> None:
    assert run("init", "--kind", "notes", "--set", "run.threads=3", "--root", "r").exit_code == 0
    text = (tmp_path / "r" / "embedpipe.toml").read_text()
    assert '\nkind = "notes"\n' in f"\n{text}"
    assert "\nthreads = 3\n" in text
    again = run("init", "--root", "r", "--json")
    file = tmp_path / "r" / "embedpipe.toml"
    assert again.document == {
        "root": str(tmp_path / "r"),
        "file": str(file),
        "created": False,
    }
    assert file.read_text() == text


def test_init_with_a_config_file_is_refused(run: Run) -> None:
    assert run("init", "--config", "x.toml").exit_code == 2


def test_config_show_tells_value_and_origin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "--set", "limits.file_bytes=77")
    monkeypatch.setenv("EMBEDPIPE_RUN__THREADS", "5")
    settings = run("config", "show", "--json", "--set", "retry.attempts=2").document["settings"]
    assert settings["limits.file_bytes"] == {"value": 77, "origin": "file .embedpipe/embedpipe.toml"}
    assert settings["run.threads"] == {"value": 5, "origin": "environment variable EMBEDPIPE_RUN__THREADS"}
    assert settings["retry.attempts"] == {"value": 2, "origin": "flag"}
    shown = run("config", "show", "--origin").stdout
    assert "environment variable EMBEDPIPE_RUN__THREADS" in shown
    assert "origin" not in run("config", "show").stdout


def test_config_show_hides_what_looks_like_a_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDPIPE_PROVIDER__BACKEND", "my.provider:Provider")
    monkeypatch.setenv("EMBEDPIPE_PROVIDER__API_KEY", "sk-abc")
    for arguments in (("--json",), ("--origin",)):
        shown = run("config", "show", *arguments).stdout
        assert "sk-abc" not in shown
        assert "(set, not shown)" in shown


def test_a_bad_setting_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[limit]\nfile_bytes = 1\n")
    for command in (("status",), ("config", "show"), ("ingest",), ("search", "x")):
        ended = run(*command, "--config", "my.toml")
        assert ended.exit_code == 2
        assert ended.stderr == (
            "error: file my.toml: the key 'limit.file_bytes' is unknown. Did you mean 'limits.file_bytes'?\n"
        )
