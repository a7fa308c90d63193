"""Looks at known differences: each is true as long as the two still differ."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from botocore.exceptions import ClientError

from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.openai import OpenAIProvider
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.errors import InvalidInput, NotFound, Throttled, Unavailable
from embedpipe.lifecycle import Status
from embedpipe.ports import BatchProvider
from simulator.effects import LATENCIES_US
from simulator.faults import EFFECTS, Fault, Planned, Strike
from simulator.kernel import SECOND_US
from simulator.serving import server
from simulator.serving.failures import Answer, Failure, Failures
from simulator.world import World
from tests.contract.aws import Wire, made_up
from tests.simulation.conformance.crashes import COLLECTION, DATABASE, ROWS, merge, rows
from tests.simulation.conformance.places import Around
from tests.simulation.conformance.provider import created, uploaded
from tests.simulation.conformance.stores import row
from tests.simulation.inside import ask


def _planned(effect: str, fault: Fault) -> World:
    return World(1, Planned([Strike(actor="test", effect=effect, nth=1, fault=fault)]))


def _raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


# --- the simulator ---------------------------------------------------------------------------------------------------


def not_repeated(around: Around) -> bool:
    cloud, wire = around.cloud(), Wire()
    with closing(S3BlobStore(cloud.new_bucket(), session=wire.session, attempts=2, **cloud.where)) as port:
        port.put("a", b"data")
        wire.fail(503, "SlowDown")
        repeated = port.get("a").data == b"data" and wire.sent.count("GetObject") == 2
    with _planned("objects.get", Fault.THROTTLED) as world:
        world.objects.put("a", b"data")
        return repeated and _raises(Throttled, lambda: ask(world, lambda: world.objects.get("a"), "test"))


def damage_arrives(around: Around) -> bool:
    cloud, wire = around.cloud(), Wire()
    target = around.folder / "target"
    with closing(S3BlobStore(cloud.new_bucket(), session=wire.session, attempts=1, **cloud.where)) as port:
        headers = {"Content-Length": "4", "x-amz-checksum-crc32": "AAAAAA=="}
        wire.answer(lambda request: made_up(request, 200, headers, b"dat4"))
        checked = _raises(Unavailable, lambda: port.download("a", target)) and not target.exists()
    with _planned("objects.download", Fault.CORRUPT) as world:
        world.objects.put("a", b"data")
        ask(world, lambda: world.objects.download("a", target), "test")
        return checked and len(target.read_bytes()) == 4 and target.read_bytes() != b"data"


def parts_stay(around: Around) -> bool:
    cloud = around.cloud()
    s3, bucket = cloud.client("s3"), cloud.new_bucket()
    s3.create_multipart_upload(Bucket=bucket, Key="new")
    (around.folder / "new").write_bytes(b"new")
    with _planned("objects.upload", Fault.CRASH_BEFORE) as world:
        world.spawn("test", lambda: world.objects.upload("new", around.folder / "new"))
        world.run()
        nothing = world.stores.objects.contents() == {}
    return nothing and len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1


def no_sizes(_: Around) -> bool:
    large = row("b1", reason="x" * 410_000)
    with World(1) as world:
        refused = _raises(InvalidInput, lambda: ask(world, lambda: world.table.put_new(large)))
    return refused and MemoryBatchTable().put_new(large)


def _served(around: Around, books: MemoryProvider, *failures: Failure) -> BatchProvider:
    switch = around.switch()
    switch.app = server.application(books, MemoryClock(), failures=Failures(failures), dimensions=8)
    return OpenAIProvider(MemoryClock(), base_url=switch.url)


def read_whole(around: Around) -> bool:
    real = _served(around, MemoryProvider(MemoryClock()))
    pieces = real.content("file-unknown")  # nothing is asked before the first piece is
    later = _raises(NotFound, lambda: next(pieces))
    with World(1) as world:
        return later and _raises(NotFound, lambda: ask(world, lambda: world.provider.content("file-unknown")))


def empty_ids(around: Around) -> bool:
    odd = Behaviour(running=(), null_output_retrieves=1, absent_file_id="")
    clock = MemoryClock()
    real = _served(around, MemoryProvider(clock, behaviour=lambda _, __: odd))
    shown = real.retrieve(created(real, around.folder)).output_file_id
    with World(1, behaviour=lambda _, __: odd) as world:
        batch_id = created(world.provider, around.folder)
        return shown is None and world.provider.retrieve(batch_id).output_file_id == ""


def no_advice(around: Around) -> bool:
    answer = Answer(status=429, code="rate_limit_exceeded", retry_after_s=7)
    real = _served(around, MemoryProvider(MemoryClock()), Failure(call="batches.create", answer=answer))
    with _planned("provider.create", Fault.THROTTLED) as world:
        advice = [
            _advice(lambda: real.create(uploaded(real, around.folder), {})),
            _advice(lambda: ask(world, lambda: created(world.provider, around.folder), "test")),
        ]
    return advice == [7, None]


def _advice(call: Callable[[], object]) -> float | None:
    try:
        call()
    except Throttled as error:
        return error.retry_after_s
    raise AssertionError("not throttled")


def not_embedding(around: Around) -> bool:
    with World(1) as world:
        return not hasattr(world.provider, "embed") and hasattr(OpenAIProvider, "embed")


def untimed(_: Around) -> bool:
    def look() -> int:
        with world.vectors.reading(DATABASE, COLLECTION, version="1-a") as found:
            before = len(world.effects.trace)
            found.count()
            found.search(rows(ROWS[:1]).vectors[0], 1)
            return len(world.effects.trace) - before

    with World(1) as world:
        ask(world, lambda: merge(world, "1-a", None, lambda collection: collection.upsert(rows(ROWS))))
        return ask(world, look) == 0


def no_logs(_: Around) -> bool:
    return not any(effect.startswith("logs.") for effect in EFFECTS)


def quick(_: Around) -> bool:
    return max(most for _, most in LATENCIES_US) == 6 * SECOND_US


# --- moto ------------------------------------------------------------------------------------------------------------


def moto_ignores_if_match(around: Around) -> bool:
    cloud = around.cloud()
    s3, where = cloud.client("s3"), {"Bucket": cloud.new_bucket(), "Key": "a"}
    s3.put_object(**where, Body=b"old")
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"new")
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, IfMatch='"another"')
    return bool(s3.get_object(**where)["Body"].read() == b"new")


def moto_takes_more(around: Around) -> bool:
    cloud = around.cloud()
    table = cloud.new_table()
    puts = [{"PutRequest": {"Item": {"PK": {"S": f"P{n}"}, "SK": {"S": "S"}}}} for n in range(26)]
    try:
        cloud.client("dynamodb").batch_write_item(RequestItems={table: puts})
    except ClientError:
        return False
    return True


def moto_names_another_error(around: Around) -> bool:
    cloud = around.cloud()
    asked: dict[str, Any] = {
        "TableName": cloud.new_table(),
        "IndexName": "none",
        "KeyConditionExpression": "GSI1PK = :a",
        "ExpressionAttributeValues": {":a": {"S": "a"}},
    }
    try:
        cloud.client("dynamodb").query(**asked)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "ResourceNotFoundException")
    return False


def moto_counts_twice(around: Around) -> bool:
    cloud = around.cloud()
    with closing(DynamoDBBatchTable(cloud.new_table(), MemoryClock(), session=cloud.session, **cloud.where)) as table:
        table.put_new(row("b1", reason="x" * 300_000))
        changes = {"reason": "y" * 300_000}  # as large as before
        return _raises(InvalidInput, lambda: table.update("b1", changes, status=Status.PENDING, revision=0))
