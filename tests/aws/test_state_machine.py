"""The real definitions, run by moto over the real handlers, with objects in S3 and rows in DynamoDB."""

from __future__ import annotations

import json

import attrs
import pytest

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.limits import STATE_BYTES_MAX, Limits
from embedpipe.model import Record
from embedpipe.pipeline import Pipeline
from tests.aws.cloud import BUCKET, AwsWorld, cloud
from tests.worlds import CONFIG

MARK = "MarkNotesBatchesComplete"
ONE_EACH = attrs.evolve(CONFIG, limits=Limits(requests_per_batch=1))


def records(count: int) -> list[Record]:
    return [Record(id=f"r{at:05d}", text=f"text {at}") for at in range(count)]


@pytest.mark.parametrize("batches", [0, 1, 50, 62])
def test_an_execution_ends_every_batch(batches: int) -> None:
    pipes: list[Pipeline] = []
    with cloud(lambda: pipes[0].context) as made:
        world = AwsWorld(lambda *_: attrs.evolve(GOOD, running=()), config=ONE_EACH)
        pipes.append(world.pipeline())
        pipes[0].submit(records(batches))
        machine = made.deploy(state_machine.ingest(world.kind), "ingest")
        ended = made.run(machine, "first", {})
        assert ended["status"] == "SUCCEEDED", ended
        seen = world.observe()
        assert [result.batch_id for result in seen.poll_results["first"]] == sorted(
            seen.rows, key=lambda name: (seen.rows[name].claim, name)
        )
        assert json.loads(ended["output"])["mark_result"]["batches_marked"] == batches == len(seen.rows)
        assert world.violations(settled=True) == []
        entered = {
            event["stateEnteredEventDetails"]["name"]: event["stateEnteredEventDetails"]["input"]
            for event in made.history(ended["executionArn"])
            if "stateEnteredEventDetails" in event
        }
        assert all(len(given.encode()) <= STATE_BYTES_MAX for given in entered.values())
        given = json.loads(entered[MARK])["poll_results_data"]
        assert given["poll_results_s3_key"] == "poll_results/first/poll_results.json"
        assert given["poll_results_s3_bucket"] == BUCKET
        assert ("PollNotesBatchesDistributed" in entered) is (batches > 50)
