"""The S3 and DynamoDB backends beside bare boto3: CPU of the same calls, answered in this process.

A `before-send` hook gives one canned answer for each operation, so that what is measured is the client: building, signing
and parsing, which both sides do, and what the backends add: checks, errors, and values of ours in place of typed items.
The bare client is given ready-made requests and its answers are thrown away; boto3's `Table` converts types as we do.

    python -m benchmarks.aws_calls
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5
from xml.sax.saxutils import escape

import boto3
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.config import Config

from benchmarks.measure import Figure, cpu_s, ratio
from embedpipe.backends.aws_client import ATTEMPTS
from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.dynamodb_items import encode_item
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.backends.system import SystemClock
from embedpipe.layout import SEED
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import row_to_item

BUCKET, TABLE, REGION, KEY = "bench-bucket", "bench-table", "eu-central-1", "poll_results/one/result.json"
BODY = b"x" * 2_000
"""About a register."""
ETAG = '"0123456789abcdef0123456789abcdef"'
LISTED, ROWS = 1_000, 100
TARGET = 1.10

Answers = Mapping[str, tuple[dict[str, str], bytes]]
Pairs = dict[str, tuple[Callable[[], object], Callable[[], object]]]
"""What is done -> ours, and the bare call."""


class Raw(io.BytesIO):
    """A body as the HTTP library gives it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def session(answers: Answers) -> boto3.Session:
    """A session whose requests are answered from the table, by operation."""
    made = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name=REGION)

    def answer(request: Any, event_name: str, **_: Any) -> AWSResponse:
        headers, body = answers[event_name.rpartition(".")[2]]
        length = {"Content-Length": str(len(body))}
        return AWSResponse(request.url, 200, HeadersDict({**headers, **length}), Raw(body))

    made.events.register("before-send", answer)
    return made


def row(number: int) -> BatchRow:
    """A batch that is running at its provider, with every attribute that such a row has."""
    return BatchRow(
        batch_id=str(uuid5(UUID(int=0), str(number))),
        batch_type="WORD_EMBEDDING",
        status=Status.PENDING,
        provider_batch_id=f"batch_{number:032x}",
        provider_status="in_progress",
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
        creating_at=datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC),
        request_count=50_000,
        request_sha256="0" * 64,
        records_sha256="1" * 64,
        input_file_id=f"file-{number:032x}",
        seq=number,
        revision=3,
        collection="receipt_words",
        database="words",
        model="text-embedding-3-small",
        dimensions=1_536,
    )


# --- S3 ------------------------------------------------------------------------------------------------------------


def _listing() -> bytes:
    entry = (
        "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag>"
        "<Size>2000</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )
    entries = "".join(entry.format(f"poll_results/{at:06d}/result.json", escape(ETAG)) for at in range(LISTED))
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><KeyCount>{LISTED}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ).encode()


def objects() -> Pairs:
    """Calls of the object store."""
    answers = {
        "PutObject": ({"ETag": ETAG}, b""),
        "GetObject": ({"ETag": ETAG, "Content-Type": "binary/octet-stream"}, BODY),
        "ListObjectsV2": ({"Content-Type": "application/xml"}, _listing()),
    }
    used = session(answers)
    store = S3BlobStore(BUCKET, region=REGION, session=used)
    s3 = used.client("s3", config=_config())
    named = {"Bucket": BUCKET, "Key": KEY}
    return {
        "put": (lambda: store.put(KEY, BODY), lambda: s3.put_object(**named, Body=BODY)),
        "conditional put": (
            lambda: store.put(KEY, BODY, if_none_match=True),
            lambda: s3.put_object(**named, Body=BODY, IfNoneMatch="*"),
        ),
        "get": (lambda: store.get(KEY), lambda: s3.get_object(**named)["Body"].read()),
        f"list of {LISTED:,}": (
            lambda: sum(1 for _ in store.list("poll_results/")),
            lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix="poll_results/", MaxKeys=1_000)["Contents"],
        ),
    }


# --- DynamoDB ------------------------------------------------------------------------------------------------------


def rows() -> Pairs:
    """Calls of the batch table, beside the low-level client."""
    found = [row(number) for number in range(ROWS)]
    names = [each.batch_id for each in found]
    items = [encode_item(row_to_item(each, SEED)) for each in found]
    used = session(_table_answers(items))
    table = DynamoDBBatchTable(TABLE, SystemClock(), region=REGION, session=used)
    dynamodb = used.client("dynamodb", config=_config())
    batch_get = {TABLE: {"Keys": [_key(item) for item in items], "ConsistentRead": True}}
    return {
        "put item": (
            lambda: table.put_new(found[0]),
            lambda: dynamodb.put_item(Item=items[0], **_condition()),
        ),
        f"BatchGet of {ROWS}": (
            lambda: table.get_many(names),
            lambda: dynamodb.batch_get_item(RequestItems=batch_get)["Responses"],
        ),
        "Query of 1,000": (
            lambda: sum(1 for _ in table.by_status("WORD_EMBEDDING", Status.PENDING)),
            lambda: dynamodb.query(**_query())["Items"],
        ),
        "update": (
            lambda: table.update(names[0], {"status": Status.COMPLETED}, status=Status.PENDING, revision=3),
            lambda: dynamodb.update_item(**_update(_key(items[0])))["Attributes"],
        ),
    }


def converted() -> Pairs:
    """The calls of the batch table that give rows, beside boto3's resource, which gives Python's values."""
    from boto3.dynamodb.types import TypeDeserializer

    found = [row(number) for number in range(ROWS)]
    names = [each.batch_id for each in found]
    items = [encode_item(row_to_item(each, SEED)) for each in found]
    used = session(_table_answers(items))
    table = DynamoDBBatchTable(TABLE, SystemClock(), region=REGION, session=used)
    resource = used.resource("dynamodb", config=_config())
    read = TypeDeserializer().deserialize
    keys = [{name: read(value) for name, value in _key(item).items()} for item in items]
    update = _update(keys[0])
    update["ExpressionAttributeValues"] = {
        name: read(value) for name, value in update["ExpressionAttributeValues"].items()
    }
    bare = resource.Table(update.pop("TableName"))
    return {
        f"BatchGet of {ROWS}": (
            lambda: table.get_many(names),
            lambda: resource.batch_get_item(RequestItems={TABLE: {"Keys": keys, "ConsistentRead": True}}),
        ),
        "update": (
            lambda: table.update(names[0], {"status": Status.COMPLETED}, status=Status.PENDING, revision=3),
            lambda: bare.update_item(**update),
        ),
    }


def _table_answers(items: list[dict[str, Any]]) -> Answers:
    index = [{"GSI1SK": {"S": f"BATCH_TYPE#WORD_EMBEDDING#BATCH_ID#{at:036d}"}} for at in range(LISTED)]
    said = {
        "PutItem": {},
        "BatchGetItem": {"Responses": {TABLE: items}, "UnprocessedKeys": {}},
        "Query": {"Items": index, "Count": LISTED, "ScannedCount": LISTED},
        "UpdateItem": {"Attributes": items[0]},
    }
    headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-RequestId": "R1"}
    return {operation: (headers, json.dumps(answer).encode()) for operation, answer in said.items()}


def _key(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in (SEED.pk, SEED.sk)}


def _condition() -> dict[str, Any]:
    return {
        "TableName": TABLE,
        "ConditionExpression": "attribute_not_exists(#pk)",
        "ExpressionAttributeNames": {"#pk": SEED.pk},
    }


def _query() -> dict[str, Any]:
    return {
        "TableName": TABLE,
        "IndexName": SEED.index_name,
        "KeyConditionExpression": "#pk = :pk AND #sk BETWEEN :low AND :high",
        "ProjectionExpression": "#sk",
        "ExpressionAttributeNames": {"#pk": SEED.index_pk, "#sk": SEED.index_sk},
        "ExpressionAttributeValues": {
            ":pk": {"S": "STATUS#PENDING"},
            ":low": {"S": "BATCH_TYPE#WORD_EMBEDDING#BATCH_ID#"},
            ":high": {"S": "BATCH_TYPE#WORD_EMBEDDING#BATCH_ID#\U0010ffff"},
        },
        "Limit": 1_000,
    }


def _update(key: dict[str, Any]) -> dict[str, Any]:
    """What `DynamoDBBatchTable.update` asks for."""
    return {
        "TableName": TABLE,
        "Key": key,
        "UpdateExpression": "SET #n0 = :v0, #n1 = :v1, #n2 = :v2",
        "ConditionExpression": "#n3 = :v3 AND #n0 = :v4 AND #n2 = :v5",
        "ExpressionAttributeNames": {"#n0": "status", "#n1": "GSI1PK", "#n2": "revision", "#n3": "TYPE"},
        "ExpressionAttributeValues": {
            ":v0": {"S": "COMPLETED"},
            ":v1": {"S": "STATUS#COMPLETED"},
            ":v2": {"N": "4"},
            ":v3": {"S": "BATCH_SUMMARY"},
            ":v4": {"S": "PENDING"},
            ":v5": {"N": "3"},
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _config() -> Config:
    return Config(retries={"mode": "standard", "total_max_attempts": ATTEMPTS})


# --- the figures ---------------------------------------------------------------------------------------------------


TURN_S = 0.02
"""CPU seconds of one turn: short, so that a busy neighbour strikes some turns and not all."""


def compared(pair: tuple[Callable[[], object], Callable[[], object]], *, rounds: int, turn_s: float = TURN_S) -> float:
    """CPU of ours over that of the bare call."""
    ours, bare = pair
    ours()
    bare()
    calls = max(1, round(turn_s / cpu_s(bare)))
    return ratio(_repeated(ours, calls), _repeated(bare, calls), rounds=rounds)


def _repeated(call: Callable[[], object], calls: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(calls):
            call()

    return work


def run(rounds: int = 101, turn_s: float = TURN_S) -> list[Figure]:
    """Each call of a backend over the bare one; over the resource, which converts types, where we do."""
    groups = (("S3", objects(), "boto3"), ("DynamoDB", rows(), "boto3"), ("DynamoDB", converted(), "boto3's resource"))
    return [
        Figure(f"{service} {name}, over {bare}", compared(pair, rounds=rounds, turn_s=turn_s), TARGET)
        for service, pairs, bare in groups
        for name, pair in pairs.items()
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
