"""`embedpipe serve` in a process of its own: what it prints, how it ends, and a whole pipeline against it over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedpipe.errors import EXIT_OK, EXIT_USAGE
from tests.cli.conftest import Run

Serve = Callable[..., tuple[str, subprocess.Popen[str]]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-m", "embedpipe", "serve", "--port", "0", "--json", *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            said += process.stdout.readline() or pytest.fail(f"it has ended: {process.communicate()[1]}")
        return json.loads(said)["base_url"], process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_pipeline_runs_against_it_with_failures(
    serve: Serve, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    table: list[Any] = [
        {"call": "batches.create", "nth": 1, "answer": {"lose": "answer"}},
        {
            "call": "batches.create",
            "nth": 2,
            "answer": {"status": 429, "code": "rate_limit_exceeded", "retry_after_s": 1},
        },
        {"call": "batches.create", "nth": 3, "answer": {"end": "expired", "answered": 4}},
        {"call": "batches.retrieve", "nth": 2, "answer": {"status": 500}},
        {"call": "files.content", "nth": 2, "answer": {"lose": "answer"}},
    ]
    (tmp_path / "failures.json").write_text(json.dumps(table))
    url, process = serve("--root", "there", "--failures", "failures.json")
    (tmp_path / "embedpipe.toml").write_text(
        f'[provider]\nbackend = "openai"\nbase_url = "{url}"\nmodel = "wordllama-l2-256"\ndimensions = 256\n'
        "[limits]\nrequests_per_batch = 8\n[policy]\ncapacity_wait_s = 1\n[run]\npoll_interval_s = 0.2\n"
    )
    words = ("apple pie", "a red car", "heavy rain")
    (tmp_path / "notes.txt").write_text("".join(f"{word}, note {number}\n" for number in range(8) for word in words))
    config = ("--config", "embedpipe.toml", "--kind", "notes")
    ended = run("run", "notes.txt", *config, "--json", "--quiet")
    assert ended.exit_code == EXIT_OK, ended.stderr
    assert (ended.document["embedded"], ended.document["rejected"]) == (24, 0)
    assert ended.document["collection_count"] == 24
    hits = run("search", "fruit cake", *config, "--json").document
    assert "apple pie" in json.dumps(hits)
    assert run("run", "notes.txt", *config, "--json", "--quiet").document["skipped"] == 24
    assert len(list((tmp_path / "there/provider/batches").iterdir())) == 4  # three, and the rest of the expired one
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == EXIT_OK


def test_it_listens_to_this_machine_alone(serve: Serve) -> None:
    url, _ = serve()
    assert url.startswith("http://127.0.0.1:")
    port = int(url.rpartition(":")[2].partition("/")[0])
    with socket.socket() as other, pytest.raises(OSError):  # noqa: PT011  refused, by whatever name
        other.connect(("127.0.0.2", port))


def test_another_interface_is_taken_with_a_warning(serve: Serve) -> None:
    _, process = serve("--host", "0.0.0.0")
    process.send_signal(signal.SIGINT)
    assert "warning: whoever can reach 0.0.0.0" in process.communicate(timeout=20)[1]


def test_what_is_kept_outlives_it(serve: Serve, tmp_path: Path) -> None:
    from embedpipe.backends.openai import OpenAIProvider
    from embedpipe.backends.system import SystemClock

    asked = {"model": "wordllama-l2-256", "input": "x"}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": asked}))
    url, process = serve()
    port = OpenAIProvider(SystemClock(), base_url=url)
    made = port.create(port.upload(path), {"n": "1"})
    port.close()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    url, _ = serve()
    port = OpenAIProvider(SystemClock(), base_url=url)
    assert port.retrieve(made.id).status == "completed"
    port.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--failures", "none.json"), "none.json: No such file"),
        (("--failures", "bad.json"), "bad.json: row 1 says nothing"),
        (("--set", "provider.backend=openai"), "is itself a server"),
        (("--port", "70000"), "--port"),
        (("--host", "192.0.2.1"), "192.0.2.1:8766: "),
    ],
)
def test_what_it_cannot_do_is_said_in_a_sentence(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "bad.json").write_text('[{"call": "batches.list", "answer": {}}]')
    ended = run("serve", *arguments)
    assert ended.exit_code == EXIT_USAGE
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr


def test_a_port_in_use_is_named(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ended = run("serve", "--port", str(taken))
    assert ended.exit_code == EXIT_USAGE
    assert f"127.0.0.1:{taken}: " in ended.stderr
    assert "--port" in ended.stderr
