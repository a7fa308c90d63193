"""One pipeline, two engines: the same records and the same provider come to the same end, locally and on AWS.

Both worlds have one clock and one source of ids, and both fan-outs go one by one: so the objects are equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD, Behaviour, ChooseBehaviour
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.errors import EmbedpipeError
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Record
from tests.aws.cloud import BUCKET, AwsWorld, Cloud, cloud
from tests.aws.functions import RECORDS_KEY, put_records
from tests.worlds import KIND, SmallWorld
from verify.strategies import behaviours, submissions

IDS = [f"r{number}" for number in range(5)] + ["../x", "a/b", "\U0001f600"]
EXECUTIONS_MAX = 4
BETWEEN_S = 100.0
FEW = settings(
    max_examples=3,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a smaller example would cost minutes
    suppress_health_check=list(HealthCheck),
)


def chooser(drawn: Sequence[Behaviour]) -> ChooseBehaviour:
    """The first creates behave as drawn, all later ones well."""
    return lambda nth, _: drawn[nth - 1] if nth <= len(drawn) else GOOD


def local(world: SmallWorld, given: Sequence[Sequence[Record]]) -> list[bool]:
    """Submits and ingests in this process: which of them ended well."""
    pipe = world.pipeline()
    went: list[bool] = []

    def attempt(call: Any, *arguments: Any, **named: Any) -> None:
        try:
            call(*arguments, **named)
            went.append(True)
        except EmbedpipeError:
            went.append(False)

    for number, records in enumerate(given):
        attempt(pipe.submit, records, execution_id=f"s{number}")
    for number in range(EXECUTIONS_MAX):
        attempt(pipe.ingest, execution_id=f"e{number}")
        world.clock.sleep(BETWEEN_S)
        if not pipe.open_rows():
            break
    return went


def on_aws(made: Cloud, world: AwsWorld, given: Sequence[Sequence[Record]], executions: int) -> list[bool]:
    """The same by the state machines."""
    submit = made.deploy(state_machine.submit(KIND), "submit")
    ingest = made.deploy(state_machine.ingest(KIND), "ingest")
    went: list[str] = []
    for number, records in enumerate(given):
        event = put_records(world, records, f"s{number}")
        went.append(made.run(submit, f"s{number}", {"records_s3_key": event["records_s3_key"]})["status"])
    for number in range(executions):
        went.append(made.run(ingest, f"e{number}")["status"])
        world.clock.sleep(BETWEEN_S)
    return [status == "SUCCEEDED" for status in went]


def rows(world: SmallWorld) -> dict[str, BatchRow]:
    """Every row, as the index has it and the table says."""
    names = [name for status in Status for name in world.table.by_status(KIND.batch_type, status)]
    return dict(world.table.get_many(names))


def objects(world: SmallWorld) -> dict[str, bytes]:
    """Every object, but what was handed over to be submitted."""
    inputs = RECORDS_KEY.partition("{")[0]
    found = [info.key for info in world.objects.list("") if not info.key.startswith(inputs)]
    return {key: world.objects.get(key).data for key in found}


def vectors(world: SmallWorld) -> dict[str, Any]:
    """Every row of the collection."""
    with world.vectors.reading(KIND.database, KIND.collection, version="") as collection:
        rows = collection.get(list(collection.ids()))
    columns = zip(rows.ids, rows.vectors, rows.documents, rows.metadatas, strict=True)
    return {name: (vector.tobytes(), document, metadata) for name, vector, document, metadata in columns}


@FEW
@given(submissions(most=2, count=5), st.lists(behaviours(IDS), max_size=2))
def test_the_local_runner_and_the_state_machine_end_alike(given, drawn) -> None:  # type: ignore[no-untyped-def]
    here = SmallWorld(chooser(drawn))
    here.objects = MemoryBlobStore(BUCKET)
    went = local(here, given)
    with pytest.MonkeyPatch.context() as patch, cloud(lambda: there.pipeline().context) as made:
        patch.setattr(state_machine, "MAP_CONCURRENCY", 1)
        there = AwsWorld(chooser(drawn))
        assert on_aws(made, there, given, len(went) - len(given)) == went
        assert rows(there) == rows(here)
        assert objects(there) == objects(here)
        assert there.recorder.forbidden() == {}
    if here.observe().latest is not None:
        assert vectors(there) == vectors(here)
    assert there.provider.creates == here.provider.creates
