"""The same commands with stores and a provider that are reached over HTTP: what the pages say of mixtures, tried."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedpipe.backends.local_model import LocalModelProvider
from embedpipe.backends.system import SystemClock
from simulator.serving import server
from tests.cli.conftest import Run
from tests.contract.aws import REGION, Cloud, over_http
from tests.serving import switch

NOTES = {"tea": "Steep green tea at 80 degrees.", "bread": "Let the dough rise overnight.", "cat": "The cat sleeps."}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with over_http() as made:
        yield made


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in NOTES.items()))
    return path


def check_the_commands(run: Run, *settings: str, notes: Path) -> None:
    """run, status, search."""
    done = run("run", notes, "--json", *settings)
    assert done.exit_code == 0, done.stderr
    assert (done.document["embedded"], done.document["batches"], done.document["collection_count"]) == (3, 1, 3)
    after = run("status", "--json", *settings).document
    assert (after["counts"]["COMPLETED"], after["open"]) == (1, [])
    check_search(run, *settings)


def check_search(run: Run, *settings: str) -> None:
    found = run("search", "how hot should the water be?", "-k", "1", "--json", *settings)
    assert [hit["id"] for hit in found.document["hits"]] == ["tea"]


def test_s3_and_dynamodb_with_the_local_model(
    run: Run, notes: Path, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own variables say where AWS is; nothing is kept here but the model's batches and a copy of the vectors."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    bucket, table = cloud.new_bucket(), cloud.new_table()
    (tmp_path / "embedpipe.toml").write_text(f"""
        kind = "notes"
        [objects]
        backend = "s3"
        bucket = "{bucket}"
        [table]
        backend = "dynamodb"
        name = "{table}"
    """)
    check_the_commands(run, "--config", "embedpipe.toml", notes=notes)
    assert cloud.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] > 10
    assert cloud.client("dynamodb").scan(TableName=table)["Count"] == 1
    assert not list(tmp_path.rglob("*.json"))[2:], "objects are in the bucket"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The section of a provider that is reached over HTTP, too."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobodys")
    with switch() as switched:
        behind = LocalModelProvider(tmp_path / "behind", SystemClock())
        switched.app = server.application(behind, SystemClock(), model="wordllama-l2-256")
        yield f"""
            [provider]
            backend = "openai"
            base_url = "{switched.url}"
            model = "wordllama-l2-256"
            dimensions = 256
        """


def test_files_with_openai(run: Run, notes: Path, tmp_path: Path, served: str) -> None:
    (tmp_path / "embedpipe.toml").write_text(f'kind = "notes"\nrun.poll_interval_s = 0.0\n{served}')
    check_the_commands(run, "--config", "embedpipe.toml", notes=notes)


def test_all_that_a_deployment_has(run: Run, notes: Path, cloud: Cloud, tmp_path: Path, served: str) -> None:
    """Objects, rows and snapshots on AWS, OpenAI's API for the rest: this machine holds a cache alone."""
    where = f'region = "{REGION}"\nendpoint_url = "{cloud.endpoint_url}"'
    (tmp_path / "embedpipe.toml").write_text(f"""
        kind = "notes"
        run.poll_interval_s = 0.0
        policy.delete_provider_files = true
        vectors.backend = "chroma_s3"
        [objects]
        backend = "s3"
        bucket = "{cloud.new_bucket()}"
        {where}
        [table]
        backend = "dynamodb"
        name = "{cloud.new_table()}"
        {where}
        {served}
    """)
    check_the_commands(run, "--config", "embedpipe.toml", notes=notes)
    assert [path.name for path in (tmp_path / "behind" / "files").iterdir() if path.stat().st_size] == []
    shutil.rmtree(tmp_path / "chroma-cache")
    check_search(run, "--config", "embedpipe.toml")
