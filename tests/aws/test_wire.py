"""Functions that are killed, or not answered, at any call to S3 or DynamoDB that changes something: below our backends.

`test_crashes` does the same at the ports, for more of them; here the backends' own order of calls is on trial.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import attrs
import botocore.client
import pytest
from botocore.exceptions import ReadTimeoutError

from embedpipe.backends.batch_files import EXPIRED
from embedpipe.backends.memory.behaviour import Behaviour
from tests.aws.cloud import AwsWorld, services
from tests.aws.functions import Functions, again_after_a_crash, ingest, put_records
from tests.harness import Crash
from tests.protocol.scenes import behaviours, records, settle, texts

CHANGES: Final = frozenset(
    {
        "PutObject",
        "DeleteObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "PutItem",
        "UpdateItem",
    }
)
"""Operations that change something."""
HOW: Final = ("killed before", "killed after", "no answer")
EXPIRES: Final = Behaviour(running=(), outcome="expired", fates={"b": EXPIRED})
THOROUGH: Final = "SLOW_TESTS" in os.environ


@attrs.define
class Wire:
    """Strikes the `nth` change, once; a process that it has killed makes no call any more."""

    nth: int = 0
    how: str = ""
    seen: int = 0
    struck: str = ""
    dead: bool = False

    def call(self, make: Any, operation: str, params: Mapping[str, Any]) -> Any:
        """One call of the SDK's client."""
        if self.dead:
            raise Crash
        if operation not in CHANGES:
            return make()
        self.seen += 1
        if self.seen != self.nth:
            return make()
        self.struck = f"{operation} {params.get('Key', '')}"
        if self.how != HOW[0]:
            make()
        if self.how == HOW[2]:
            raise ReadTimeoutError(endpoint_url="https://aws")
        self.dead = True
        raise Crash


@contextmanager
def on_the_wire(wire: Wire) -> Iterator[None]:
    """Every client of the SDK calls through it."""
    make = botocore.client.BaseClient._make_api_call

    def call(client: Any, operation: str, params: Mapping[str, Any]) -> Any:
        return wire.call(lambda: make(client, operation, params), operation, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", call)
        yield


def life(wire: Wire) -> AwsWorld:
    """A submission of two batches, one of which expires in part; two executions; each invocation a process of its own."""
    world = AwsWorld(behaviours(EXPIRES))
    functions = Functions(world)

    def invoked(step: str, event: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return functions(step, event)
        finally:
            wire.dead = False  # the next one is another process

    deliver = again_after_a_crash(invoked)
    event = put_records(world, records("a b c d", "1"), "s")  # by the user, before anything is struck
    with on_the_wire(wire):
        deliver("submit", event)
        for number in range(2):
            ingest(world, f"e{number}", deliver)
    return world


CHANGES_MADE: Final = 45
"""In a life in which nothing goes wrong; a test counts them."""
CASES = [
    pytest.param(nth, how, id=f"{nth} {how}")
    for nth in range(1, CHANGES_MADE + 1)
    for how in (HOW if THOROUGH else [HOW[nth % 3]])
    if THOROUGH or nth % 4 == 1
]


@pytest.mark.parametrize(("nth", "how"), CASES)
def test_a_change_that_is_cut_off_loses_nothing(nth: int, how: str) -> None:
    with services():
        wire = Wire(nth, how)
        world = life(wire)
        assert wire.struck
        assert world.violations() == [], wire.struck
        settle(world, texts("a b c d", "1"))
        assert len(world.provider.paid) <= 3 + len(world.ambiguous), wire.struck


def test_every_change_is_among_the_cases() -> None:
    with services():
        wire = Wire()
        life(wire)
    assert wire.seen == CHANGES_MADE
