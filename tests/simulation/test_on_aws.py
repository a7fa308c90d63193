"""The suites on AWS itself, in a bucket and a table that the environment names; what they leave there is deleted.

CONFORMANCE_BUCKET=... CONFORMANCE_TABLE=... AWS_DEFAULT_REGION=... pytest tests/simulation
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import boto3
import pytest
from botocore.exceptions import ClientError

from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.dynamodb_items import decode_item, encode_item
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.backends.system import SystemClock
from embedpipe.backends.table_rules import item_key
from embedpipe.layout import Layout
from tests.simulation.conformance import stores  # noqa: F401  it fills the table of cases
from tests.simulation.conformance.cases import AWS, CASES
from tests.simulation.conformance.places import BUCKET, RUN, TABLE, Around, delete_all, layout_of
from verify.contracts import BatchTableContract, BlobStoreContract, blob_keys

bucket = os.environ.get(BUCKET, "")
table = os.environ.get(TABLE, "")
if not (bucket and table):
    pytest.skip(f"{BUCKET} and {TABLE} name no bucket and table of AWS", allow_module_level=True)


class TestObjectsOnAws(BlobStoreContract):
    @pytest.fixture(autouse=True)
    def _room_for_the_prefix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S3 counts it as a part of the key, which has 1,024 bytes."""
        monkeypatch.setattr(blob_keys, "ODD_KEYS", [key for key in blob_keys.ODD_KEYS if len(key.encode()) < 900])

    def create(self) -> str:
        return f"conformance-{uuid.uuid4()}"

    def destroy(self, store: str) -> None:
        port = self.connect(store)
        for info in list(port.list("")):
            port.delete(info.key)

    def connect(self, store: str) -> S3BlobStore:
        return S3BlobStore(bucket, prefix=store)

    def raw_read(self, store: str, key: str) -> bytes | None:
        try:
            data: bytes = boto3.client("s3").get_object(Bucket=bucket, Key=f"{store}/{key}")["Body"].read()
        except ClientError:
            return None
        return data

    def raw_write(self, store: str, key: str, data: bytes) -> None:
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{store}/{key}", Body=data)


class TestTableOnAws(BatchTableContract):
    index_lag_s = 10.0

    def create(self) -> Layout:
        self.layout = layout_of(f"CONFORMANCE#{uuid.uuid4()}")  # type: ignore[misc]  # each test has its own rows
        return self.layout

    def destroy(self, store: Layout) -> None:
        delete_all(table, store)

    def connect(self, store: Layout) -> DynamoDBBatchTable:
        return DynamoDBBatchTable(table, SystemClock(), store)

    def raw_read(self, store: Layout, batch_id: str) -> Mapping[str, Any] | None:
        pk, sk = item_key(batch_id, store)
        key = {store.pk: {"S": pk}, store.sk: {"S": sk}}
        found = boto3.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True)
        return decode_item(found["Item"]) if "Item" in found else None

    def raw_write(self, store: Layout, batch_id: str, item: Mapping[str, Any]) -> None:
        boto3.client("dynamodb").put_item(TableName=table, Item=encode_item(item))


def _nothing() -> NoReturn:
    raise AssertionError("there is no moto and no server here")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if AWS in case.places])
def test_a_behaviour_on_aws(name: str, tmp_path: Path) -> None:
    RUN[AWS](CASES[name], Around(folder=tmp_path, cloud=_nothing, switch=_nothing))
