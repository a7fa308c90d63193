"""Where a case runs: each place as a function that gives a body its ports and lets it run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import boto3

from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.backends.openai import OpenAIProvider
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.backends.system import SystemClock
from embedpipe.layout import SEED, Layout
from simulator.serving import server
from simulator.world import World
from tests.contract.aws import Cloud
from tests.serving import Switch
from tests.simulation.conformance.cases import AWS, HTTP, MEMORY, MOTO, SIMULATOR, Case, Given
from tests.simulation.inside import ask

BUCKET, TABLE = "CONFORMANCE_BUCKET", "CONFORMANCE_TABLE"


@attrs.frozen(kw_only=True)
class Around:
    """What cases of one place share, since it takes time to make."""

    folder: Path
    cloud: Callable[[], Cloud]
    switch: Callable[[], Switch]


def simulator(case: Case, around: Around) -> None:
    """Inside an actor; vectors both in place and in versions."""
    for in_place in (True, False):
        with World(1, behaviour=lambda _, __: case.behaviour, in_place=in_place) as world:
            given = Given(
                clock=world.clock,
                folder=around.folder,
                objects=world.objects,
                table=world.table,
                provider=world.provider,
                books=world.stores.provider,
                vectors=world.vectors,
            )
            ask(world, lambda given=given: case.run(given))  # type: ignore[misc]  # bound now
            assert world.effects.trace
        if case.service != "vectors":
            return


def memory(case: Case, around: Around) -> None:
    """Called as they are."""
    clock = MemoryClock()
    provider = MemoryProvider(clock, behaviour=lambda _, __: case.behaviour)
    case.run(
        Given(
            clock=clock,
            folder=around.folder,
            objects=MemoryBlobStore(clock=clock),
            table=MemoryBatchTable(),
            provider=provider,
            books=provider,
            vectors=MemoryVectorStore(),
        )
    )


def moto(case: Case, around: Around) -> None:
    """A new bucket or table."""
    cloud, clock = around.cloud(), SystemClock()
    given = Given(clock=clock, folder=around.folder)
    if case.service == "objects":
        given.objects = S3BlobStore(cloud.new_bucket(), session=cloud.session, **cloud.where)
    else:
        given.table = DynamoDBBatchTable(cloud.new_table(), clock, session=cloud.session, **cloud.where)
    case.run(given)


def http(case: Case, around: Around) -> None:
    """The time is the provider's own: it passes there, not here."""
    clock, switch = MemoryClock(), around.switch()
    books = MemoryProvider(clock, behaviour=lambda _, __: case.behaviour)
    switch.app = server.application(books, clock, dimensions=8)
    with closing(OpenAIProvider(clock, base_url=switch.url)) as provider:
        case.run(Given(clock=clock, folder=around.folder, provider=provider, books=books))


def aws(case: Case, around: Around) -> None:
    """In a part of the bucket or table of its own; what a case leaves there is deleted."""
    with real_objects() if case.service == "objects" else real_table() as port:
        case.run(attrs.evolve(Given(clock=SystemClock(), folder=around.folder), **{case.service: port}))


@contextmanager
def real_objects() -> Iterator[S3BlobStore]:
    with closing(S3BlobStore(os.environ[BUCKET], prefix=f"conformance-{uuid.uuid4()}")) as port:
        yield port
        for info in list(port.list("")):
            port.delete(info.key)


@contextmanager
def real_table() -> Iterator[DynamoDBBatchTable]:
    layout = layout_of(f"CONFORMANCE#{uuid.uuid4()}")
    with closing(DynamoDBBatchTable(os.environ[TABLE], SystemClock(), layout)) as port:
        yield port
        delete_all(os.environ[TABLE], layout)


def layout_of(mark: str) -> Layout:
    """Rows under `mark` alone, so that those of others are neither seen nor touched."""
    return attrs.evolve(SEED, pk_value=mark + "#{batch_id}", index_pk_value=mark + "#{status}")


def delete_all(table: str, layout: Layout) -> None:
    """The rows of a layout made by `layout_of`."""
    client: Any = boto3.client("dynamodb")
    mark = layout.pk_value.removesuffix("{batch_id}")
    asked: dict[str, Any] = {
        "TableName": table,
        "FilterExpression": "begins_with(#pk, :mark)",
        "ExpressionAttributeNames": {"#pk": layout.pk},
        "ExpressionAttributeValues": {":mark": {"S": mark}},
    }
    for page in client.get_paginator("scan").paginate(**asked):
        for item in page["Items"]:
            client.delete_item(TableName=table, Key={name: item[name] for name in (layout.pk, layout.sk)})


RUN: Final[Mapping[str, Callable[[Case, Around], None]]] = {
    SIMULATOR: simulator,
    MEMORY: memory,
    MOTO: moto,
    HTTP: http,
    AWS: aws,
}
