"""The calls to S3 and DynamoDB of one ingest in which every batch ends well: counted, beside a formula that explains them.

The backends are the real ones, over moto in this process; provider and vectors are in memory. Requests are counted as the
SDK sends them, so a page, a part and a repeated request are one each.

    python -m benchmarks.ingest_calls
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
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
from embedpipe.limits import BATCH_GET_KEYS_MAX, Limits, Policy
from embedpipe.model import EmbeddingModel
from embedpipe.stages.chunk import DELTAS_PER_CHUNK_MAX

BUCKET, TABLE, REGION = "bench-bucket", "bench-table", "eu-central-1"
RECORDS = 2
"""Of one batch; how many there are changes no count until a file goes up in parts."""


@attrs.frozen
class Calls:
    """Requests of one operation in one step: `once + batches * each`, and so on."""

    operation: str
    once: int = 0
    each: int = 0
    """For each batch."""
    chunk: int = 0
    """For each chunk."""
    rows: int = 0
    """For each hundred keys of a BatchGet, or each page of an index query over the batches that are listed."""
    listing: int = 0
    """More where the listing is not inline."""


STEPS: Mapping[str, tuple[Calls, ...]] = {
    # The rows of the ledger's entries are put where they lack, and INTENT and CREATING rows are looked for.
    "create_pending": (Calls("GetObject", once=2), Calls("BatchGetItem", rows=2), Calls("Query", once=2)),
    # The manifest, ours and the deployed name, before and after it is put; items.json is always written.
    "list_pending": (
        Calls("GetObject", once=3),
        Calls("PutObject", once=2),
        Calls("BatchGetItem", rows=1),
        Calls("Query", once=1, rows=1),
    ),
    # Register and records are read; three files of the delta, delta.json and the register are written.
    "poll": (Calls("GetObject", each=2, listing=1), Calls("PutObject", each=5), Calls("BatchGetItem", each=1)),
    "normalize": (Calls("GetObject", once=1, each=1), Calls("PutObject", once=1)),
    "split": (Calls("GetObject", once=2), Calls("PutObject", once=1)),
    # delta.json and the vectors; the packed rows and their hash.
    "process_chunk": (Calls("GetObject", each=2, chunk=1), Calls("PutObject", chunk=2)),
    # The pointer, the snapshot and the catalog; the journal before, and the new version after.
    "final_merge": (Calls("GetObject", once=7, chunk=2), Calls("PutObject", once=4), Calls("DeleteObject", once=1)),
    # delta.json, the rejected, those to retry and the records prove a batch.
    "mark_complete": (
        Calls("GetObject", once=4, each=4),
        Calls("PutObject", once=1),
        Calls("BatchGetItem", rows=1),
        Calls("UpdateItem", each=1),
    ),
}
"""What each step asks for. A Map that reads stored items reads them once."""


def formula(batches: int, *, chunks: int = 1, inline_max: int = Policy().inline_batches_max) -> dict[str, int]:
    """Requests by operation of one execution that lists `batches`, all of which end well.

    The collection has a version, files go up in one request, and all chunks are merged into one version.

    >>> round(sum(formula(1_500, chunks=3).values()) / 1_500, 2)
    16.07
    """
    per = {"BatchGetItem": BATCH_GET_KEYS_MAX, "Query": PAGE_ROWS}
    found: Counter[str] = Counter()
    for calls in chain.from_iterable(STEPS.values()):
        found[calls.operation] += (
            calls.once
            + calls.each * batches
            + calls.chunk * chunks
            + calls.rows * ceil(batches / per.get(calls.operation, 1))
            + calls.listing * (batches > inline_max)
        )
    return dict(found)


def counted(batches: int, policy: Policy | None = None) -> Counter[str]:
    """Requests by operation of one execution over so many batches that are done at the provider."""
    with mock_aws():
        session = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name=REGION)
        _make_stores(session)
        requests: Counter[str] = Counter()

        def sent(event_name: str, **_: Any) -> None:
            requests[event_name.rpartition(".")[2]] += 1

        session.events.register("before-send", sent)
        pipe = _pipeline(session, policy or Policy())
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


def _pipeline(session: boto3.Session, policy: Policy) -> Pipeline:
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
        policy=policy,
        run=RunSettings(threads=1, poll_interval_s=10.0),
    )
    return Pipeline(backends, config, kind=Kind("bench"))


def run(batches: int = 1_500) -> list[Figure]:
    """The count over the formula, or the other way round."""
    found, expected = counted(batches), formula(batches, chunks=ceil(batches / DELTAS_PER_CHUNK_MAX))
    total, said = sum(found.values()), sum(expected.values())
    calls = ", ".join(f"{found[name]:,} {name}" for name in expected)
    note = f"{total:,} calls, {total / batches:.2f} a batch: {calls}"
    return [
        Figure(
            f"calls of an ingest of {batches:,} batches, off the formula",
            max(total / said, said / total),
            1.05,
            note=note,
        )
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
