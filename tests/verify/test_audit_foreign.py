"""Deployments that embedpipe did not write: the seed's fields alone, and another pipeline's names for everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import ConfigError
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from tests.verify.auditing import audited
from tests.worlds import KIND, SmallWorld
from verify.audit.api import check
from verify.audit.files import read_layout
from verify.audit.report import Report
from verify.audit.sources import Source

THEIRS = """
result = "out/{batch_id}.json"
poll_results = "runs/{execution_id}/all.json"
manifest = "runs/{execution_id}/list.json"
items = "runs/{execution_id}/items.json"
pk = "id"
sk = "kind"
pk_value = "job/{batch_id}"
sk_value = "job"
index_pk = "state"
index_sk = "order"
index_pk_value = "state/{status}"
index_sk_value = "{batch_type}/{batch_id}"

[attributes]
provider_batch_id = "vendor_id"
status = "phase"

[statuses]
COMPLETED = "DONE"
PENDING = "WAITING"
"""


class Deployment:
    """What a pipeline of the seed's design leaves, under the keys and attributes of `layout`."""

    def __init__(self, layout: Layout = SEED) -> None:
        self.layout = layout
        self.clock = MemoryClock()
        self.objects = MemoryBlobStore(clock=self.clock)
        self.table = MemoryBatchTable(layout)
        self.results: list[dict[str, Any]] = []

    def batch(self, name: str, status: Status, *, action: str, vectors: int = 2) -> None:
        """A row and its register, with the seed's fields only."""
        row = BatchRow(batch_id=name, batch_type="WORD_EMBEDDING", status=status, provider_batch_id=f"batch_{name}")
        self.table.put_new(row)
        delta = f"words/delta/words/receipt_words/delta-{name}/" if vectors else None
        result = {
            "batch_id": name,
            "openai_batch_id": f"batch_{name}",
            "batch_status": "completed" if action != "wait" else "in_progress",
            "action": action,
            "results_count": vectors,
            "delta_id": f"delta-{name}" if vectors else None,
            "delta_key": delta,
            "embedding_count": vectors,
            "storage": "s3_delta",
        }
        if delta:
            self.objects.put(f"{delta}chroma.sqlite3", b"a delta of another format")
        self.put(self.layout.result_key(name), result)
        self.results.append(result)

    def run(self, name: str) -> None:
        """An execution that listed all of them inline, and normalised."""
        self.put(self.layout.poll_results_key(name), self.results)

    def put(self, key: str, value: Any) -> None:
        """An object without a schema."""
        self.objects.put(key, json.dumps(value).encode())

    def audit(self, **options: Any) -> Report:
        """Past every grace period."""
        self.clock.sleep(100_000)
        source = Source.over("theirs", objects=self.objects, table=self.table, clock=self.clock, layout=self.layout)
        return check(source, **options)


def deployment(layout: Layout = SEED) -> Deployment:
    made = Deployment(layout)
    made.batch("b1", Status.COMPLETED, action="process_results")
    made.batch("b2", Status.COMPLETED, action="process_partial")
    made.batch("b3", Status.PENDING, action="wait", vectors=0)
    made.batch("b4", Status.COMPLETED, action="handle_failure", vectors=0)
    made.run("run-1")
    return made


@pytest.fixture(params=["seed", "another layout"])
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    path = tmp_path / "their-layout.toml"
    path.write_text(THEIRS)
    return SEED if request.param == "seed" else read_layout(path)


def test_a_healthy_one_has_no_finding_and_g2_stays_unproven(layout: Layout) -> None:
    report = deployment(layout).audit()
    assert {finding.code for finding in report.findings} == {"A902"}
    assert (report.verdict, report.exit_code) == ("incomplete", 3)
    (g2,) = [finding for finding in report.findings if "G2" in str(finding.evidence.get("guarantee"))]
    assert g2.evidence["batches"] == 3
    (records,) = [line for line in report.coverage.lines if line.family == "R"]
    assert (records.not_evaluated, records.in_flight) == (3, 1)
    assert deployment(layout).audit(depth="metadata").findings != ()


def test_the_four_verifications_of_the_seed_find_what_they_are_for(layout: Layout) -> None:
    made = deployment(layout)
    nameless = [{**one} for one in made.results]
    del nameless[0]["batch_id"]
    made.put(layout.poll_results_key("run-1"), nameless)
    made.put(layout.result_key("b2"), {**made.results[1], "action": "wait"})
    made.objects.delete(layout.result_key("b4"))
    found = {(finding.code, finding.batch_ids) for finding in made.audit().findings if finding.code[0] != "A"}
    assert found == {
        ("P203", ()),
        ("P204", ("b2",)),
        ("B701", ("b2",)),
        ("P201", ("b4",)),
        ("B701", ("b4",)),
    }


def test_a_seed_batch_that_our_pipeline_completes_is_no_finding() -> None:
    world = SmallWorld()
    pipe = world.pipeline()
    row = BatchRow(batch_id="old", batch_type=KIND.batch_type, status=Status.PENDING, provider_batch_id=paid(world))
    world.table.put_new(row)
    for _ in range(6):
        pipe.ingest()
    assert world.table.get_many(["old"])["old"].status is Status.COMPLETED
    report = audited(world)
    assert {finding.code for finding in report.findings} == {"A902"}
    assert report.verdict == "incomplete"


def paid(world: SmallWorld) -> str:
    """A provider batch of two requests that somebody else created."""
    from tempfile import TemporaryDirectory

    line = '{{"custom_id":"{0}","method":"POST","url":"/v1/embeddings","body":{{"model":"scripted","input":"{0}"}}}}\n'
    with TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        path.write_text(line.format("w1") + line.format("w2"))
        return world.provider.create(world.provider.upload(path), {}).id


def layout_of(folder: Path, text: str) -> Layout:
    path = folder / "layout.toml"
    path.write_text(text)
    return read_layout(path)


def test_what_a_layout_file_does_not_name_stays_as_it_is(tmp_path: Path) -> None:
    """One attribute renamed leaves the others; words that others write for a status are read."""
    layout = layout_of(tmp_path, '[attributes]\nstatus = "phase"\n[more_statuses]\nRUNNING = "PENDING"\n')
    assert layout.attributes == {"provider_batch_id": "openai_batch_id", "status": "phase"}
    assert deployment(layout).audit(depth="content").findings == deployment(SEED).audit(depth="content").findings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[attributes]\nstat = "phase"\n', "attributes renames 'stat', which there is not"),
        ('[statuses]\nCOMPLETD = "DONE"\n', "statuses renames 'COMPLETD', which there is not"),
        ("[attributes]\nstatus = 5\n", "attributes must be a table of texts"),
        ('statuses = "x"\n', "statuses must be a table of texts"),
    ],
)
def test_a_misspelt_name_in_a_layout_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        layout_of(tmp_path, text)
