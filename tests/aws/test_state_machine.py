"""The real definitions, run by moto over the real handlers.

With objects in S3 and rows in DynamoDB, each batch costs some twenty calls of moto, 3 ms each: `make slow` has that for many.
"""

from __future__ import annotations

import json
import os

import attrs
import pytest

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.limits import STATE_BYTES_MAX, Limits
from embedpipe.model import Record
from embedpipe.pipeline import Pipeline
from tests.aws.cloud import BUCKET, AwsWorld, QuickWorld, cloud
from tests.worlds import CONFIG, SmallWorld
from verify.invariants import check

HISTORY_EVENTS_MAX = 25_000  # [aws] of one execution
ONE_EACH = attrs.evolve(
    CONFIG, limits=Limits(requests_per_batch=1), policy=attrs.evolve(CONFIG.policy, chunk_rows=20, merge_rows=1_000)
)
SLOW = pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes minutes: make slow")


def records(count: int) -> list[Record]:
    return [Record(id=f"r{at:05d}", text=f"text {at}") for at in range(count)]


CASES = [
    *((AwsWorld, batches) for batches in (0, 1)),
    *((QuickWorld, batches) for batches in (50, 62)),
    *(pytest.param(AwsWorld, batches, marks=SLOW) for batches in (50, 62, 1_500)),
]


@pytest.mark.parametrize(("kind_of_world", "batches"), CASES)
def test_an_execution_ends_every_batch(kind_of_world: type[SmallWorld], batches: int) -> None:
    pipes: list[Pipeline] = []
    with cloud(lambda: pipes[0].context) as made:
        world = kind_of_world(lambda *_: attrs.evolve(GOOD, running=()), config=ONE_EACH)
        pipes.append(world.pipeline())
        pipes[0].submit(records(batches))
        machine = made.deploy(state_machine.ingest(world.kind), "ingest")
        ended = made.run(machine, "first")
        assert ended["status"] == "SUCCEEDED", ended

        seen = world.observe()
        assert check(seen, settled=True) == []
        listed = sorted(seen.rows.values(), key=lambda row: (row.claim, row.batch_id))
        results = seen.poll_results["first"]  # G1: the listed ids, each once, each with its own name at the provider
        assert [(result.batch_id, result.openai_batch_id) for result in results] == [
            (row.batch_id, row.provider_batch_id) for row in listed
        ]
        assert len(listed) == len(seen.collection or {}) == batches
        assert json.loads(ended["output"])["mark_result"]["batches_marked"] == batches

        history = made.history(ended["executionArn"])
        (marking,) = (
            event["stateEnteredEventDetails"]["input"]
            for event in history
            if event["type"] == "TaskStateEntered"
            and event["stateEnteredEventDetails"]["name"] == "MarkNotesBatchesComplete"
        )
        given = json.loads(marking)["poll_results_data"]
        assert given["poll_results_s3_key"] == "poll_results/first/poll_results.json"
        assert given["poll_results_s3_bucket"] == BUCKET
        assert ("PollNotesBatchesDistributed" in made.entered(ended["executionArn"])) is (batches > 50)
        assert len(history) <= HISTORY_EVENTS_MAX
        states = [event.get(f"state{way}EventDetails", {}) for event in history for way in ("Entered", "Exited")]
        sizes_bytes = [len(state[put].encode()) for state in states for put in ("input", "output") if put in state]
        assert max(sizes_bytes) <= STATE_BYTES_MAX
        assert made.failures == []
        if isinstance(world, AwsWorld):
            assert world.recorder.forbidden() == {}
