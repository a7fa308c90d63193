"""The calls to S3 and DynamoDB of one ingest in which every batch ends well: counted, beside a formula that explains them.

The backends are the real ones, over moto in this process; provider and vectors are in memory. Requests are counted as the
SDK sends them, so a page, a part and a repeated request are one each.

    python -m benchmarks.ingest_calls
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any

import attrs
import boto3
from moto import mock_aws

from benchmarks.measure import Figure
from embedpipe import Kind, Pipeline, Record
from embedpipe.assembly import Backends
from embedpipe.backends.dynamodb import PAGE_ROWS, DynamoDBBatchTable
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.config import Config, RunSettings
from embedpipe.engine import ingest
from embedpipe.layout import SEED
from embedpipe.limits import BATCH_GET_KEYS_MAX, Limits
from embedpipe.model import EmbeddingModel
from embedpipe.steps.context import ROWS_AT_ONCE

BUCKET, TABLE, REGION = "bench-bucket", "bench-table", "eu-central-1"
RECORDS = 2
"""Of one batch; how many there are changes no count until a file goes up in parts."""
WITHIN = 0.05


def formula(batches: int, *, chunks: int = 1) -> dict[str, int]:
    """Requests by operation, of one execution that lists `batches`, all of which end well, in a bucket that has a version.

    >>> sum(formula(1_500).values()) / 1_500
    0.0
    """
    return {}


def counted(batches: int) -> Counter[str]:
    """Requests by operation of one execution over so many batches that are done at the provider."""
    with mock_aws():
        session = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name=REGION)
        _make_stores(session)
        requests: Counter[str] = Counter()

        def sent(event_name: str, **_: Any) -> None:
            requests[event_name.rpartition(".")[2]] += 1

        session.events.register("before-send", sent)
        pipe = _pipeline(session)
        pipe.run([Record(id="first", text="makes the root, the ledger and a version")])
        pipe.submit(Record(id=f"r{at:06d}", text=f"text {at}") for at in range(batches * RECORDS))
        requests.clear()
        walked = ingest(pipe.context, execution_id="counted", policy=pipe._config.retry, threads=1)
        if walked.state["mark_result"]["batches_marked"] != batches:
            raise AssertionError(f"not all of {batches} batches were marked: {walked.state['mark_result']}")
        return Counter(requests)


def _make_stores(session: boto3.Session) -> None:
    session.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    names = (SEED.pk, SEED.sk, SEED.index_pk, SEED.index_sk)
    session.client("dynamodb").create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        KeySchema=_keys(SEED.pk, SEED.sk),
        GlobalSecondaryIndexes=[
            {
                "IndexName": SEED.index_name,
                "KeySchema": _keys(SEED.index_pk, SEED.index_sk),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def _keys(hash_key: str, range_key: str) -> list[Any]:
    return [{"AttributeName": hash_key, "KeyType": "HASH"}, {"AttributeName": range_key, "KeyType": "RANGE"}]


def _pipeline(session: boto3.Session) -> Pipeline:
    clock = MemoryClock()
    done = Behaviour(running=())  # at its first retrieve
    provider = MemoryProvider(clock, behaviour=lambda _, __: done)
    backends = Backends(
        objects=S3BlobStore(BUCKET, region=REGION, session=session),
        table=DynamoDBBatchTable(TABLE, clock, region=REGION, session=session),
        provider=provider,
        embedder=provider,
        vectors=MemoryVectorStore(),
        clock=clock,
    )
    config = attrs.evolve(
        Config.load(env={}, flags={}),
        model=EmbeddingModel(name="scripted", dimensions=8),
        limits=Limits(requests_per_batch=RECORDS),
        run=RunSettings(threads=1, poll_interval_s=10.0),
    )
    return Pipeline(backends, config, kind=Kind("bench"))
