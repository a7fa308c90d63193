"""A deployment without an account: moto runs the real definitions, and their functions are the real handlers.

moto ignores what it does not know (see docs/aws.md), so what it accepts is checked elsewhere, too. It also does much work again
that does not change: parsing each path, making a client for each call. What is replaced here saves time and decides nothing.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.awslambda.models import LambdaBackend
from moto.core.botocore_stubber import BotocoreStubber
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from embedpipe.aws import state_machine
from embedpipe.aws.handlers import Handler, handler
from embedpipe.aws.permissions import FUNCTIONS, action_of
from embedpipe.aws.template import template
from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.behaviour import ChooseBehaviour, always_good
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.model import Kind
from embedpipe.steps.call import CALLS
from embedpipe.steps.context import Context
from tests.contract.aws import Wire
from tests.harness import Crash
from tests.worlds import SmallWorld

REGION = "eu-central-1"
ACCOUNT = "123456789012"
BUCKET = "vectors"
TABLE = "batches"
DEADLINE_S = 300.0
_parsed_definition = functools.cache(AmazonStateLanguageParser.parse)
_parsed_path = functools.cache(json_path.parse)
_parsed_result_path = functools.cache(result_path.parse)
"""moto parses every definition twice, and every path each time it meets it."""
NOBODY = "nobody"
"""Who calls outside a step: the test itself."""

step_now: ContextVar[str] = ContextVar("step_now", default=NOBODY)
"""The step whose handler runs in this thread."""

Deliver = Callable[[str, Mapping[str, Any], Handler], dict[str, Any]]
"""How an invocation reaches its handler: the step, the event, the handler -> the output."""


class Recorder:
    """The permissions that each step's calls need, as they are made."""

    def __init__(self, session: boto3.Session) -> None:
        self.used: dict[str, set[str]] = {}
        session.events.register("provide-client-params", self._called)
        session.events.register("after-call", self._answered)

    def _called(self, model: Any, **_: Any) -> None:
        self._note(action_of(model.service_model.service_name, model.name))

    def _answered(self, model: Any, http_response: Any, **_: Any) -> None:
        if http_response.status_code == 404 and model.service_model.service_name == "s3":
            self._note("s3:ListBucket")  # without it, S3 says 403 and nobody knows that nothing is there

    def _note(self, action: str) -> None:
        self.used.setdefault(step_now.get(), set()).add(action)

    def forbidden(self) -> dict[str, set[str]]:
        """What steps have done that the role of their function does not allow."""
        outside = {step: used - set(FUNCTIONS[step]) for step, used in self.used.items() if step != NOBODY}
        return {step: actions for step, actions in outside.items() if actions}


class AwsWorld(SmallWorld):
    """Objects in S3 and rows in DynamoDB; provider and vectors stay in memory. Only inside `cloud` or `services`."""

    def __init__(self, behaviour: ChooseBehaviour = always_good, **options: Any) -> None:
        super().__init__(behaviour, **options)
        self.wire = Wire()
        self.recorder = Recorder(self.wire.session)
        make_stores(self.kind)
        self.objects: Any = S3BlobStore(BUCKET, region=REGION, session=self.wire.session)
        self.table: Any = DynamoDBBatchTable(TABLE, self.clock, region=REGION, session=self.wire.session)


class QuickWorld(SmallWorld):
    """All stores in memory, for many batches: S3 has what the state machine itself reads. Only inside `cloud`."""

    def __init__(self, behaviour: ChooseBehaviour = always_good, **options: Any) -> None:
        super().__init__(behaviour, **options)
        make_stores(self.kind)
        self.objects = Mirrored(BUCKET)


class Mirrored(MemoryBlobStore):
    """The arrays that a Distributed Map reads are in S3, too."""

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """As the port says."""
        etag = super().put(key, data, if_none_match=if_none_match, if_match=if_match)
        if key.endswith(("/items.json", "/chunks.json")):
            _client("s3").put_object(Bucket=BUCKET, Key=key, Body=data)
        return etag


def make_stores(kind: Kind) -> None:
    """The bucket and the table of the template."""
    s3, dynamodb = _client("s3"), _client("dynamodb")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    properties = template(kind)["Resources"]["Table"]["Properties"]
    names = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    dynamodb.create_table(TableName=TABLE, **{name: properties[name] for name in names})


@functools.cache
def _client(service: str) -> Any:
    """Of nobody. Made once for all tests: most of what it costs is reading the SDK's service models."""
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
    return session.client(service)


def straight(_: str, event: Mapping[str, Any], handle: Handler) -> dict[str, Any]:
    """Once, and that is all."""
    return handle(event, None)


class Cloud:
    """Step Functions over handlers that are given `context`."""

    def __init__(self, context: Callable[[], Context]) -> None:
        self.handlers = {name: handler(name, context) for name in CALLS}
        self.deliver: Deliver = straight
        self.sfn = _client("stepfunctions")
        self.invocations: list[tuple[str, Mapping[str, Any]]] = []
        """Every invocation: the step and its event."""
        self.failures: list[tuple[str, str]] = []
        """Those that failed: the step and the error's name."""

    def deploy(self, definition: Mapping[str, Any], name: str) -> str:
        """Create the state machine; its ARN."""
        text = json.dumps(definition)
        names = {placeholder: _arn(placeholder) for placeholder in state_machine.placeholders(definition)}
        for placeholder, value in (names | {"Bucket": BUCKET}).items():
            text = text.replace("${" + placeholder + "}", value)
        role = f"arn:aws:iam::{ACCOUNT}:role/sfn"
        made = self.sfn.create_state_machine(name=name, definition=text, roleArn=role)
        return str(made["stateMachineArn"])

    def run(self, machine: str, name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Start an execution and wait for its end: what `describe_execution` says."""
        import time

        started = self.sfn.start_execution(stateMachineArn=machine, name=name, input=json.dumps(given or {}))
        arn = started["executionArn"]
        execution = stepfunctions_parser_backends[ACCOUNT][REGION].describe_execution(arn)
        end = time.monotonic() + DEADLINE_S
        while execution.status == "RUNNING" and time.monotonic() < end:
            time.sleep(0.005)
        found: dict[str, Any] = self.sfn.describe_execution(executionArn=arn)
        if found["status"] == "RUNNING":
            raise TimeoutError(name)
        return found

    def history(self, execution_arn: str) -> list[dict[str, Any]]:
        """All events of an execution."""
        pages = self.sfn.get_paginator("get_execution_history").paginate(executionArn=execution_arn)
        return [event for page in pages for event in page["events"]]

    def entered(self, execution_arn: str) -> dict[str, str]:
        """The input of each state that was entered, by its name; of a loop the last."""
        details = (event.get("stateEnteredEventDetails") for event in self.history(execution_arn))
        return {found["name"]: found["input"] for found in details if found}

    def invoke(self, function: str, body: str | bytes) -> tuple[bytes, bool]:
        """What Lambda does with an event: the handler's output, or its error as Lambda reports it."""
        event = json.loads(body)
        self.invocations.append((function, event))
        token = step_now.set(function)
        try:
            return json.dumps(self.deliver(function, event, self.handlers[function])).encode(), False
        except Crash:  # the process is gone
            return self._failed(function, "Sandbox.Timedout", "Task timed out after 900.00 seconds")
        except Exception as error:  # noqa: BLE001  as Lambda does
            return self._failed(function, type(error).__name__, str(error))
        finally:
            step_now.reset(token)

    def _failed(self, function: str, error: str, message: str) -> tuple[bytes, bool]:
        self.failures.append((function, error))
        return json.dumps({"errorType": error, "errorMessage": message}).encode(), True


def _arn(placeholder: str) -> str:
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in placeholder.removesuffix("FunctionArn"))
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{words.strip('_')}"


@contextmanager
def services() -> Iterator[pytest.MonkeyPatch]:
    """S3, DynamoDB and Step Functions in this process."""
    with pytest.MonkeyPatch.context() as patch, mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setattr("moto.s3.models.reload", lambda module: module)
        patch.setattr(BotocoreStubber, "process_request", _stores_in_turn(BotocoreStubber.process_request))
        yield patch


def _stores_in_turn(inner: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """S3 and DynamoDB take one request after the other: moto does not decide races. Functions run side by side."""
    lock = threading.RLock()

    def process(stubber: Any, request: Any) -> Any:
        if "//lambda." in request.url or "//states." in request.url:
            return inner(stubber, request)
        with lock:
            return inner(stubber, request)

    return process


@contextmanager
def cloud(context: Callable[[], Context], *, sleep: Callable[[float], None] = lambda _: None) -> Iterator[Cloud]:
    """A cloud in this process, whose pauses between retries are `sleep`s."""
    with services() as patch:
        made = Cloud(context)

        def invoke(_: Any, function_name: str, __: Any, body: Any, ___: Any, response_headers: dict[str, str]) -> bytes:
            payload, failed = made.invoke(function_name.rpartition(":")[2], body)
            if failed:
                response_headers["x-amz-function-error"] = "Unhandled"
            response_headers["Content-Length"] = str(len(payload))
            return payload

        patch.setattr(LambdaBackend, "invoke", invoke)
        patch.setattr(lambda_eval_utils, "boto_client_for", lambda service, **_: _client(service))
        patch.setattr(retrier_decl, "time", SimpleNamespace(sleep=sleep))
        patch.setattr(AmazonStateLanguageParser, "parse", staticmethod(_parsed_definition))
        for module, parsed in ((json_path, _parsed_path), (result_path, _parsed_result_path)):
            patch.setattr(module, "parse", parsed)
        yield made
