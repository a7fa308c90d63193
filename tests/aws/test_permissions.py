"""Each function does what its role allows and nothing else, and its role allows nothing that it never does.

The calls are those that the SDK makes, whoever makes them in a step; a backend that asks for more shows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from embedpipe.aws.permissions import FUNCTIONS
from embedpipe.backends.batch_files import EXPIRED
from embedpipe.backends.chroma_s3 import ChromaSnapshotStore
from embedpipe.backends.memory.behaviour import Behaviour, CreateFault
from embedpipe.errors import EmbedpipeError, NotFound
from tests.aws.cloud import AwsWorld, services
from tests.aws.functions import Functions, again_after_a_crash, ingest, submit
from tests.harness import crash, dies
from tests.protocol.scenes import behaviours, records

PART_BYTES = 128
"""So that nearly every object goes up in parts, as large ones do."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    """The answer to its first create is lost, and two searches do not find the batch; then it expires without a vector."""
    lost = Behaviour(
        create=CreateFault.ANSWER_LOST,
        unlisted_calls=2,
        running=(),
        outcome="expired",
        fates=dict.fromkeys(("r1", "r2"), EXPIRED),
    )
    monkeypatch.setattr("embedpipe.backends.s3.PART_BYTES", PART_BYTES)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART_BYTES)
    with services():
        yield AwsWorld(behaviours(lost))


class Upset(Functions):
    """Each function meets a store that refuses a part of an upload, and is invoked again."""

    def __call__(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        wire = self._world.wire  # type: ignore[attr-defined]
        wire.fail(400, "InvalidRequest", on="UploadPart")
        try:
            return super().__call__(name, event)
        except EmbedpipeError:
            wire.faults.clear()
            return super().__call__(name, event)
        finally:
            wire.faults.clear()


def all_that_can_happen(world: AwsWorld) -> None:
    """Every step, on every path that asks S3 or DynamoDB for something that others do not."""
    deliver = again_after_a_crash(Upset(world))
    ingest(world, "new-bucket", deliver)

    def dies_in_the_ledger(_: str, effect: str) -> None:
        if effect.endswith("/head.json"):
            crash()

    # So an ingest has to put the row.
    assert dies(lambda: submit(world, records("r1 r2", "1"), "s1", Functions(world, dies_in_the_ledger)))
    ingest(world, "creates", deliver)
    world.clock.sleep(world.config.policy.ambiguous_after_s)
    ingest(world, "finds", deliver)
    ingest(world, "embeds", deliver)
    submit(world, records("x1 x2", "1"), "s2", deliver)
    world.objects.put(world.config.layout.journal_key(world.kind.database), b"{")
    for name in ("takes-over", "ends"):
        ingest(world, name, deliver)
    assert world.violations(settled=True) == []


def misses(world: AwsWorld) -> None:
    """Whatever a step needs of the steps before it is gone."""
    gone = {
        "normalize": ({"batch_id": "e"}, "manifests/e/batches.json"),
        "split": ({"execution_id": "e", "poll_results_s3_key": "x"}, "x"),
        "process_chunk": ({"execution_id": "e", "index": 0}, "chunks/e/chunks.json"),
        "mark_complete": ({"execution_id": "e", "poll_results_s3_key": "x"}, "x"),
    }
    for step, (event, key) in gone.items():
        with pytest.raises(NotFound, match=key):
            Functions(world)(step, event)


def test_every_call_is_allowed_and_every_permission_is_used(world: AwsWorld) -> None:
    all_that_can_happen(world)
    misses(world)
    used = {step: sorted(world.recorder.used[step]) for step in FUNCTIONS}
    assert used == {step: sorted(allowed) for step, allowed in FUNCTIONS.items()}
    assert world.recorder.forbidden() == {}


def test_what_snapshots_of_chroma_need_is_allowed(tmp_path: Path) -> None:
    """They are the vectors of the template: versions in the bucket, below a lease."""
    with services():
        world = AwsWorld(behaviours())
        world.vectors = ChromaSnapshotStore(world.objects, world.clock, cache=tmp_path)  # type: ignore[assignment]
        for name in ("s1", "s2"):
            submit(world, records(f"a b {name}", name), name, Functions(world))
            ingest(world, name, Functions(world))
        assert world.violations(settled=True) == []
        assert len(world.observe().snapshots) == 2
        assert world.recorder.forbidden() == {}
