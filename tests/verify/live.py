"""A deployment on moto, with the log group of its mark function, for audits of live AWS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import attrs
import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.model import Record
from tests.aws.cloud import BUCKET, REGION, TABLE, AwsWorld, Cloud, _client, cloud
from tests.verify.recorded import ONE_EACH, Lines
from tests.worlds import KIND, SmallWorld
from verify.audit.api import aws, check
from verify.audit.report import Report
from verify.sources.permissions import needed_for

GROUP: Final = "/aws/lambda/mark"


class Live:
    """The deployment, and audits of it by names alone."""

    def __init__(self, made: Cloud, world: SmallWorld, lines: Lines) -> None:
        self.cloud, self.world, self._lines = made, world, lines
        self.machine = ""
        self.logs = _client("logs")
        self.logs.create_log_group(logGroupName=GROUP)
        self.logs.create_log_stream(logGroupName=GROUP, logStreamName="one")

    def deploy(self, change: Callable[[Any], Any] = lambda definition: definition) -> None:
        self.machine = self.cloud.deploy(change(state_machine.ingest(KIND)), "ingest")

    def submit(self, count: int) -> None:
        self.world.pipeline().submit([Record(id=f"r{at}", text=f"text {at}") for at in range(count)])

    def ingest(self, name: str) -> dict[str, Any]:
        ended = self.cloud.run(self.machine, name)
        events = [{"timestamp": int(time.time() * 1000), "message": text} for text in self._lines.lines]
        if events:
            self.logs.put_log_events(logGroupName=GROUP, logStreamName="one", logEvents=events)
        self._lines.lines.clear()
        return ended

    @property
    def named(self) -> dict[str, Any]:
        """All that there is."""
        return {
            "bucket": BUCKET,
            "table": TABLE,
            "state_machine_arns": [self.machine],
            "log_groups": [GROUP],
            "region": REGION,
            "kind": KIND,
        }

    @property
    def flags(self) -> list[str]:
        """The same for a command."""
        named = ["--bucket", BUCKET, "--table", TABLE, "--state-machine-arn", self.machine, "--log-group", GROUP]
        return [*named, "--region", REGION]

    def audited(self, *, changes: Mapping[str, Any] | None = None, **options: Any) -> Report:
        source = aws(**{**self.named, **(changes or {})})
        try:
            return check(source, **{"grace_s": -1.0, **options})
        finally:
            source.close()


@contextmanager
def live(**policy: Any) -> Iterator[Live]:
    """One record a batch; the provider and the vectors are in memory."""
    worlds: list[SmallWorld] = []
    config = attrs.evolve(ONE_EACH, policy=attrs.evolve(ONE_EACH.policy, **policy))
    with (
        Lines() as lines,
        cloud(lambda: worlds[0].pipeline().context) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        own, session = boto3.Session, boto3.Session()
        # Reads the SDK's service models once for all audits.
        patch.setattr("boto3.Session", lambda **given: session if "profile_name" in given else own(**given))
        worlds.append(AwsWorld(lambda *_: attrs.evolve(GOOD, running=()), config=config))
        yield Live(made, worlds[0], lines)


def codes(report: Any) -> set[str]:
    return {finding.code for finding in report.findings}


def states(report: Any, unit: str = "executions") -> dict[str, tuple[int, int]]:
    return {line.family: (line.total, line.checked) for line in report.coverage.lines if line.unit == unit}


def permissions(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The permissions that the SDK's calls need, as they are made."""
    used: set[str] = set()
    inner = BaseClient._make_api_call

    def record(client: Any, operation: str, arguments: Any) -> Any:
        used.add(needed_for(client.meta.service_model.service_name, operation))
        return inner(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", record)
    return used


def refuse(monkeypatch: pytest.MonkeyPatch, operation: str, code: str) -> None:
    """Let AWS answer one kind of call with an error."""
    inner = BaseClient._make_api_call

    def refusing(client: Any, name: str, arguments: Any) -> Any:
        if name != operation:
            return inner(client, name, arguments)
        said = {
            "Error": {"Code": code, "Message": "User is not authorized to perform this action"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        raise ClientError(said, name)  # type: ignore[arg-type]

    monkeypatch.setattr(BaseClient, "_make_api_call", refusing)
