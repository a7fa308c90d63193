"""Faults that the real machine runs into on moto, and vectors that lie in the bucket: each a deployment of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedpipe.backends.chroma_s3 import ChromaSnapshotStore
from tests.verify.live import Live, codes, live, permissions, states
from verify.sources.permissions import ACTIONS

MARK = "MarkNotesBatchesComplete"


def a_pass_replaces_the_state(definition: Any) -> Any:
    """A Pass with `Parameters` and no `ResultPath`, before the mark step."""
    for state in definition["States"].values():
        for choice in [state, *state.get("Choices", ())]:
            for field in ("Next", "Default"):
                if choice.get(field) == MARK:
                    choice[field] = "Tidy"
    definition["States"]["Tidy"] = {
        "Type": "Pass",
        "Parameters": {"execution_id.$": "$.execution_id", "poll_results_data": {"poll_results_s3_key": None}},
        "Next": MARK,
    }
    return definition


@pytest.fixture
def faulty() -> Iterator[Live]:
    with live() as made:
        yield made


def test_a_pass_that_drops_the_key(faulty: Live) -> None:
    """The seed's second verification."""
    faulty.deploy(a_pass_replaces_the_state)
    faulty.submit(2)
    faulty.ingest("e")
    report = faulty.audited()
    (key,) = [f for f in report.findings if f.code == "X301" and f.evidence["field"] == "poll_results_s3_key"]
    assert (key.evidence["state"], key.evidence["after"]) == ("Tidy", "null")
    assert key.evidence["before"] == "poll_results/e/poll_results.json"
    assert len(key.batch_ids) == 2


def test_a_mark_function_that_returns_its_error(faulty: Live) -> None:
    """It SUCCEEDED with `batches_marked: 0`."""
    faulty.deploy()
    faulty.submit(2)

    def deliver(step: str, event: Any, handle: Callable[..., Any]) -> Any:
        if step == "mark_complete":
            return {"statusCode": 500, "error": "NoSuchKey", "batches_marked": 0}
        return handle(event, None)

    faulty.cloud.deliver = deliver
    assert faulty.ingest("e")["status"] == "SUCCEEDED"
    report = faulty.audited()
    assert {"X302", "X303"} <= codes(report)
    (unmarked,) = [f for f in report.findings if f.code == "X302"]
    assert (unmarked.evidence["eligible"], unmarked.evidence["counts"]) == (2, {"batches_marked": 0})
    assert len(unmarked.batch_ids) == 2
    assert report.exit_code == 1


def test_snapshots_of_chroma_in_the_bucket_need_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with live() as made:
        made.world.vectors = ChromaSnapshotStore(made.world.objects, made.world.clock, cache=tmp_path / "theirs")  # type: ignore[assignment]
        made.deploy()
        made.submit(2)
        made.ingest("e")
        settings = tmp_path / "embedpipe.toml"
        settings.write_text(f'[vectors]\nbackend = "chroma_s3"\ncache = "{tmp_path / "ours"}"\n')
        called = permissions(monkeypatch)
        report = made.audited(changes={"config_file": settings}, depth="vectors")
    assert report.findings == ()
    assert states(report, "collections")["V"] == (1, 1)
    assert called <= {action for actions in ACTIONS.values() for action in actions}
