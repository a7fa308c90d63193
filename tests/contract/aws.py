"""AWS without an account: moto in this process, and moto's server over HTTP. And what tests look at or break on the way.

moto does not decide races as AWS does, which takes one request for a key after the other; so here it takes one at a time.
What else differs is listed in docs/fidelity.md.
"""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import attrs
import boto3
import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer

from embedpipe.backends.dynamodb_items import encode_item
from embedpipe.layout import SEED, Layout

REGION: Final = "eu-central-1"
_numbers: Final = itertools.count()
_one_at_a_time: Final = threading.RLock()


@attrs.frozen(eq=False)
class Cloud:
    """Somewhere that answers as AWS does."""

    endpoint_url: str = ""
    session: boto3.Session = attrs.field(factory=boto3.Session)
    """Reads the SDK's service models once for all clients of a test class."""
    _clients: dict[str, Any] = attrs.field(factory=dict, init=False)

    def client(self, service: str) -> Any:
        """A client of the tests' own, to go around the port."""
        if service not in self._clients:
            made = self.session.client(service, region_name=REGION, endpoint_url=self.endpoint_url or None)
            self._clients[service] = made
        return self._clients[service]

    @property
    def where(self) -> Mapping[str, Any]:
        """Options of a backend that is to use it."""
        return {"region": REGION, "endpoint_url": self.endpoint_url}

    def new_bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{next(_numbers)}"
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def new_table(self, layout: Layout = SEED) -> str:
        """The name of a new table with the layout's keys and index."""
        name = f"table-{next(_numbers)}"
        keys = (layout.pk, layout.sk), (layout.index_pk, layout.index_sk)
        schemas = [
            [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}] for pk, sk in keys
        ]
        self.client("dynamodb").create_table(
            TableName=name,
            KeySchema=schemas[0],
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for pair in keys for each in pair],
            GlobalSecondaryIndexes=[
                {"IndexName": layout.index_name, "KeySchema": schemas[1], "Projection": {"ProjectionType": "ALL"}}
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        return name


@contextmanager
def _in_turn(patch: pytest.MonkeyPatch, owner: type, method: str) -> Iterator[None]:
    inner = getattr(owner, method)

    def locked(*arguments: Any) -> Any:
        with _one_at_a_time:
            return inner(*arguments)

    patch.setattr(owner, method, locked)
    yield


@contextmanager
def _credentials() -> Iterator[pytest.MonkeyPatch]:
    """Of nobody, and nothing of the developer's own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, "/nonexistent")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield patch


@contextmanager
def in_process() -> Iterator[Cloud]:
    """moto within botocore: no byte leaves the process."""
    with _credentials() as patch, _in_turn(patch, BotocoreStubber, "process_request"), mock_aws():
        yield Cloud()


@contextmanager
def over_http() -> Iterator[Cloud]:
    """moto's server, on a port of its own."""
    with _credentials() as patch, _in_turn(patch, DomainDispatcherApplication, "__call__"):
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield Cloud(f"http://{host}:{port}")
        finally:
            server.stop()


# --- looking and breaking ------------------------------------------------------------------------------------------


Fault = Callable[[str, Any], AWSResponse | None]
"""Given the operation and the request; what it answers is not asked of the service."""


class Wire:
    """A `boto3.Session` whose calls are written down, and whose requests meet `faults` before they are sent."""

    def __init__(self) -> None:
        self.session = boto3.Session()
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        """Operation and parameters of each call."""
        self.answers: list[tuple[str, Mapping[str, Any]]] = []
        """Operation and answer of each call that was answered."""
        self.sent: list[str] = []
        """Operation of each request; the SDK may send one call more than once."""
        self.faults: list[Fault] = []
        """Each takes one request, in order."""
        self.refused: dict[str, Fault] = {}
        """By operation: what answers all its requests."""
        self.session.events.register("provide-client-params", self._called)
        self.session.events.register_first("before-send", self._before_send)  # before moto answers
        self.session.events.register("after-call", self._answered)

    def operations(self) -> list[str]:
        """Of the calls, in order."""
        return [operation for operation, _ in self.calls]

    def last(self, operation: str) -> Mapping[str, Any]:
        """Parameters of the last call of an operation."""
        return next(params for name, params in reversed(self.calls) if name == operation)

    def fail(self, status: int, code: str, *, times: int = 1, on: str = "", **more: str) -> None:
        """Answer the next requests with an error; those before the first one of the operation `on` pass."""
        self.faults += [self._waiting(on, partial(_error, status, code, more))] * times

    def refuse(self, operation: str, status: int, code: str) -> None:
        """Answer every request of an operation with an error, until `refused` is emptied."""
        self.refused[operation] = lambda _, request: _error(status, code, {}, request)

    def answer(self, fault: Callable[[Any], AWSResponse | None], *, on: str = "") -> None:
        """Let `fault` answer the next request, of the operation `on`."""
        self.faults.append(self._waiting(on, fault))

    def lose_answer(self) -> None:
        """Send the next request, and lose what comes back."""
        self.faults.append(lambda _, request: _lost(request))

    def _waiting(self, on: str, fault: Callable[[Any], AWSResponse | None]) -> Fault:
        def answer(operation: str, request: Any) -> AWSResponse | None:
            if on and operation != on:
                self.faults.insert(0, answer)
                return None
            return fault(request)

        return answer

    def _called(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        self.calls.append((model.name, dict(params)))

    def _answered(self, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
        self.answers.append((model.name, parsed))

    def _before_send(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.sent.append(operation)
        if operation in self.refused:
            return self.refused[operation](operation, request)
        return self.faults.pop(0)(operation, request) if self.faults else None


class _Raw(io.BytesIO):
    """The body of a made-up answer, as the SDK reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def made_up(request: Any, status: int, headers: Mapping[str, str], body: bytes) -> AWSResponse:
    """An answer that no service gave."""
    return AWSResponse(request.url, status, HeadersDict(headers), _Raw(body))


def _error(status: int, code: str, more: Mapping[str, str], request: Any) -> AWSResponse:
    if "X-Amz-Target" in request.headers:
        said = {"__type": f"com.amazonaws.dynamodb#{code}", "message": "made up", **more}
        return made_up(request, status, {"x-amzn-RequestId": "R1"}, json.dumps(said).encode())
    inner = {"Code": code, "Message": "made up", **more}
    body = "".join(f"<{name}>{value}</{name}>" for name, value in inner.items())
    return made_up(request, status, {"x-amz-request-id": "R1"}, f"<Error>{body}</Error>".encode())


def _lost(request: Any) -> None:
    http = URLLib3Session()
    try:
        http.send(request)
    finally:
        http.close()
    raise ReadTimeoutError(endpoint_url=request.url)


PER_WRITE: Final = 25  # AWS takes no more; moto would


def write_all(cloud: Cloud, table: str, items: list[dict[str, object]]) -> None:
    """Items put around every port."""
    client = cloud.client("dynamodb")
    for start in range(0, len(items), PER_WRITE):
        puts = [{"PutRequest": {"Item": encode_item(item)}} for item in items[start : start + PER_WRITE]]
        assert not client.batch_write_item(RequestItems={table: puts})["UnprocessedItems"]
