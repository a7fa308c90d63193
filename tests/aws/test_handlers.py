"""The functions as they start on AWS: from the environment that the template gives them, and from nothing else."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedpipe import flow
from embedpipe.aws import handlers
from embedpipe.aws.template import files, template
from embedpipe.errors import CorruptData, InvalidInput
from embedpipe.model import WORD
from tests.aws.cloud import BUCKET, REGION, TABLE, make_stores, services

DOCUMENT = template(WORD)


@pytest.fixture
def _started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A new container."""
    (tmp_path / "embedpipe.toml").write_text(str(files(WORD)["embedpipe.toml"]))
    names = {"Bucket": BUCKET, "Table": TABLE}
    parameters = {name: str(body.get("Default", "")) for name, body in DOCUMENT["Parameters"].items()}
    for name, value in DOCUMENT["Globals"]["Function"]["Environment"]["Variables"].items():
        monkeypatch.setenv(name, value if isinstance(value, str) else (names | parameters)[value["Ref"]])
    monkeypatch.setenv("EMBEDPIPE_CONFIG", str(tmp_path / "embedpipe.toml"))
    monkeypatch.setenv("EMBEDPIPE_ROOT", str(tmp_path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("OPENAI_API_KEY", "of nobody")
    ours = logging.getLogger("embedpipe")
    before = ours.handlers[:], ours.level, ours.propagate
    with services():
        make_stores(WORD)
        handlers._context.cache_clear()
        yield
        handlers._context.cache_clear()
    ours.handlers[:], ours.level, ours.propagate = before


@pytest.mark.usefixtures("_started")
def test_a_function_starts_from_its_environment(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"execution_id": "e"}
    listing = handlers.list_pending(event, object())
    assert (listing["total_batches"], listing["manifest_s3_bucket"]) == (0, BUCKET)
    handlers.normalize({"batch_id": "e", "poll_results": []}, object())
    results = {"poll_results_s3_key": "poll_results/e/poll_results.json", "poll_results_s3_bucket": BUCKET}
    marked = handlers.mark_complete(event | results, object())
    assert marked["batches_marked"] == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["listed", "mark_batches_complete", "marked_complete"]
    assert lines[0]["kind"] == "word"


@pytest.mark.usefixtures("_started")
def test_what_goes_wrong_is_raised_and_a_container_lives_on() -> None:
    with pytest.raises(CorruptData, match="execution_id"):
        handlers.list_pending({}, None)
    first = handlers._context()
    assert handlers.list_pending({"execution_id": "e"}, None)["total_batches"] == 0
    assert handlers._context() is first


@pytest.mark.usefixtures("_started")
def test_a_refused_record_is_named_by_its_object_and_line() -> None:
    handlers._context().objects.put("in/words.jsonl", b'{"id": "a", "text": "x"}\n{"id": "b"}\n')
    with pytest.raises(InvalidInput, match=f"^{BUCKET}/in/words.jsonl:2: has no 'text'"):
        handlers.submit({"execution_id": "e", "records_s3_key": "in/words.jsonl"}, None)


def test_every_command_of_the_template_is_a_handler() -> None:
    commands: list[Any] = [
        body["Properties"]["ImageConfig"]["Command"]
        for body in DOCUMENT["Resources"].values()
        if body["Type"] == "AWS::Serverless::Function"
    ]
    for (command,) in commands:
        module, _, name = command.rpartition(".")
        assert getattr(importlib.import_module(module), name).__name__ == name
    assert len(commands) == len({step.name for step in (*flow.SUBMIT, *flow.INGEST)})
