"""A deployment without an account: moto runs the real definitions, and their functions are the real handlers.

moto ignores what it does not know (see docs/aws.md), so what it accepts is checked elsewhere, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.awslambda.models import LambdaBackend

from embedpipe.aws import state_machine
from embedpipe.aws.handlers import handler
from embedpipe.aws.template import template
from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.behaviour import ChooseBehaviour, always_good
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.steps.call import CALLS
from embedpipe.steps.context import Context
from tests.contract.aws import Wire
from tests.worlds import SmallWorld

REGION = "eu-central-1"
ACCOUNT = "123456789012"
BUCKET = "vectors"
TABLE = "batches"
DEADLINE_S = 60.0


class AwsWorld(SmallWorld):
    """Objects in S3 and rows in DynamoDB; provider and vectors stay in memory. Only inside `cloud`."""

    def __init__(self, behaviour: ChooseBehaviour = always_good, **options: Any) -> None:
        super().__init__(behaviour, **options)
        s3, dynamodb = (boto3.client(service, region_name=REGION) for service in ("s3", "dynamodb"))
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        properties = template(self.kind)["Resources"]["Table"]["Properties"]
        names = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
        dynamodb.create_table(TableName=TABLE, **{name: properties[name] for name in names})
        self.wire = Wire()
        self.objects: Any = S3BlobStore(BUCKET, region=REGION, session=self.wire.session)
        self.table: Any = DynamoDBBatchTable(TABLE, self.clock, region=REGION, session=self.wire.session)


class Cloud:
    """Step Functions over handlers that are given `context`."""

    def __init__(self, context: Callable[[], Context]) -> None:
        self.handlers = {name: handler(name, context) for name in CALLS}
        self.sfn = boto3.client("stepfunctions", region_name=REGION)
        self.inputs: list[tuple[str, Mapping[str, Any]]] = []
        """Every invocation: the step and its event."""

    def deploy(self, definition: Mapping[str, Any], name: str) -> str:
        """Create the state machine; its ARN."""
        text = json.dumps(definition)
        names = {placeholder: self._arn(placeholder) for placeholder in state_machine.placeholders(definition)}
        for placeholder, value in (names | {"Bucket": BUCKET}).items():
            text = text.replace("${" + placeholder + "}", value)
        role = f"arn:aws:iam::{ACCOUNT}:role/sfn"
        made = self.sfn.create_state_machine(name=name, definition=text, roleArn=role)
        return str(made["stateMachineArn"])

    def run(self, machine: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Start an execution and wait for its end: what `describe_execution` says."""
        import time

        started = self.sfn.start_execution(stateMachineArn=machine, name=name, input=json.dumps(given))
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found: dict[str, Any] = self.sfn.describe_execution(executionArn=started["executionArn"])
            if found["status"] != "RUNNING":
                return found
            time.sleep(0.02)
        raise TimeoutError(name)

    def history(self, execution_arn: str) -> list[dict[str, Any]]:
        """All events of an execution."""
        pages = self.sfn.get_paginator("get_execution_history").paginate(executionArn=execution_arn)
        return [event for page in pages for event in page["events"]]

    def invoke(self, function: str, body: str | bytes) -> tuple[bytes, bool]:
        """What Lambda does with an event: the handler's output, or its error as Lambda reports it."""
        event = json.loads(body)
        self.inputs.append((function, event))
        try:
            return json.dumps(self.handlers[function](event, None)).encode(), False
        except Exception as error:  # noqa: BLE001  as Lambda does
            return json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode(), True

    @staticmethod
    def _arn(placeholder: str) -> str:
        words = "".join(f"_{c.lower()}" if c.isupper() else c for c in placeholder.removesuffix("FunctionArn"))
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{words.strip('_')}"


@contextmanager
def cloud(context: Callable[[], Context]) -> Iterator[Cloud]:
    """A cloud in this process."""
    with pytest.MonkeyPatch.context() as patch, mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        made = Cloud(context)

        def invoke(_: Any, function_name: str, __: Any, body: Any, ___: Any, response_headers: dict[str, str]) -> bytes:
            payload, failed = made.invoke(function_name.rpartition(":")[2], body)
            if failed:
                response_headers["x-amz-function-error"] = "Unhandled"
            response_headers["Content-Length"] = str(len(payload))
            return payload

        patch.setattr(LambdaBackend, "invoke", invoke)
        yield made
