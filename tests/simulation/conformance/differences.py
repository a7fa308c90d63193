"""The one list of what is known to differ: between what, how, and why it may stay so.

Where it can be looked at, an entry has a check that is true as long as it differs; a test says when it no longer does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import attrs
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
from simulator import server
from simulator.effects import LATENCIES_US
from simulator.failures import Answer, Failure, Failures
from simulator.faults import EFFECTS, Fault, Planned, Strike
from simulator.kernel import SECOND_US
from simulator.world import World
from tests.contract.aws import Wire, made_up
from tests.simulation.conformance.crashes import COLLECTION, DATABASE, ROWS, merge, rows
from tests.simulation.conformance.places import Around
from tests.simulation.conformance.provider import created, uploaded
from tests.simulation.conformance.stores import row
from tests.simulation.inside import ask


@attrs.frozen(kw_only=True)
class Difference:
    """One entry."""

    name: str
    between: str
    says: str
    reason: str
    differs: Callable[[Around], bool] | None = None
    """None: it can't be looked at here."""


def _planned(effect: str, fault: Fault) -> World:
    return World(1, Planned([Strike(actor="test", effect=effect, nth=1, fault=fault)]))


def _raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


# --- the simulator ---------------------------------------------------------------------------------------------------


def _not_repeated(around: Around) -> bool:
    cloud, wire = around.cloud(), Wire()
    with closing(S3BlobStore(cloud.new_bucket(), session=wire.session, attempts=2, **cloud.where)) as port:
        port.put("a", b"data")
        wire.fail(503, "SlowDown")
        repeated = port.get("a").data == b"data" and wire.sent.count("GetObject") == 2
    with _planned("objects.get", Fault.THROTTLED) as world:
        world.objects.put("a", b"data")
        return repeated and _raises(Throttled, lambda: ask(world, lambda: world.objects.get("a"), "test"))


def _damage_arrives(around: Around) -> bool:
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


def _parts_stay(around: Around) -> bool:
    cloud = around.cloud()
    s3, bucket = cloud.client("s3"), cloud.new_bucket()
    s3.create_multipart_upload(Bucket=bucket, Key="new")
    (around.folder / "new").write_bytes(b"new")
    with _planned("objects.upload", Fault.CRASH_BEFORE) as world:
        world.spawn("test", lambda: world.objects.upload("new", around.folder / "new"))
        world.run()
        nothing = world.stores.objects.contents() == {}
    return nothing and len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1


def _no_sizes(_: Around) -> bool:
    large = row("b1", reason="x" * 410_000)
    with World(1) as world:
        refused = _raises(InvalidInput, lambda: ask(world, lambda: world.table.put_new(large)))
    return refused and MemoryBatchTable().put_new(large)


def _served(around: Around, books: MemoryProvider, *failures: Failure) -> BatchProvider:
    switch = around.switch()
    switch.app = server.application(books, MemoryClock(), failures=Failures(failures), dimensions=8)
    return OpenAIProvider(MemoryClock(), base_url=switch.url)


def _read_whole(around: Around) -> bool:
    real = _served(around, MemoryProvider(MemoryClock()))
    pieces = real.content("file-unknown")  # nothing is asked before the first piece is
    later = _raises(NotFound, lambda: next(pieces))
    with World(1) as world:
        return later and _raises(NotFound, lambda: ask(world, lambda: world.provider.content("file-unknown")))


def _empty_ids(around: Around) -> bool:
    odd = Behaviour(running=(), null_output_retrieves=1, absent_file_id="")
    clock = MemoryClock()
    real = _served(around, MemoryProvider(clock, behaviour=lambda _, __: odd))
    shown = real.retrieve(created(real, around.folder)).output_file_id
    with World(1, behaviour=lambda _, __: odd) as world:
        batch_id = created(world.provider, around.folder)
        return shown is None and world.provider.retrieve(batch_id).output_file_id == ""


def _no_advice(around: Around) -> bool:
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


def _not_embedding(around: Around) -> bool:
    with World(1) as world:
        return not hasattr(world.provider, "embed") and hasattr(OpenAIProvider, "embed")


def _untimed(_: Around) -> bool:
    def look() -> int:
        with world.vectors.reading(DATABASE, COLLECTION, version="1-a") as found:
            before = len(world.effects.trace)
            found.count()
            found.search(rows(ROWS[:1]).vectors[0], 1)
            return len(world.effects.trace) - before

    with World(1) as world:
        ask(world, lambda: merge(world, "1-a", None, lambda collection: collection.upsert(rows(ROWS))))
        return ask(world, look) == 0


def _no_logs(_: Around) -> bool:
    return not any(effect.startswith("logs.") for effect in EFFECTS)


def _quick(_: Around) -> bool:
    return max(most for _, most in LATENCIES_US) == 6 * SECOND_US


# --- moto ------------------------------------------------------------------------------------------------------------


def _moto_ignores_if_match(around: Around) -> bool:
    cloud = around.cloud()
    s3, where = cloud.client("s3"), {"Bucket": cloud.new_bucket(), "Key": "a"}
    s3.put_object(**where, Body=b"old")
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"new")
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, IfMatch='"another"')
    return bool(s3.get_object(**where)["Body"].read() == b"new")


def _moto_takes_more(around: Around) -> bool:
    cloud = around.cloud()
    table = cloud.new_table()
    puts = [{"PutRequest": {"Item": {"PK": {"S": f"P{n}"}, "SK": {"S": "S"}}}} for n in range(26)]
    try:
        cloud.client("dynamodb").batch_write_item(RequestItems={table: puts})
    except ClientError:
        return False
    return True


def _moto_names_another_error(around: Around) -> bool:
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


def _moto_counts_twice(around: Around) -> bool:
    cloud = around.cloud()
    with closing(DynamoDBBatchTable(cloud.new_table(), MemoryClock(), session=cloud.session, **cloud.where)) as table:
        table.put_new(row("b1", reason="x" * 300_000))
        changes = {"reason": "y" * 300_000}  # as large as before
        return _raises(InvalidInput, lambda: table.update("b1", changes, status=Status.PENDING, revision=0))


SIMULATOR: Final = "simulator and service"
MOTO: Final = "moto and AWS"

DIFFERENCES: Final = (
    Difference(
        name="http/scripted",
        between="the scripted provider and OpenAI",
        says="OpenAI itself is never asked: behind the SDK stands a server of ours, made after the API's reference.",
        reason="Batches cost money and take hours. So these cases show that SDK and backend change nothing on the way.",
    ),
    Difference(
        name="simulator/no_sdk",
        between=SIMULATOR,
        says="A fault reaches the caller at once; the SDK repeats reads and unconditional writes first.",
        reason="Each fault stands for one that outlasted the SDK. Steps must bear it, however seldom it is.",
        differs=_not_repeated,
    ),
    Difference(
        name="simulator/corrupt_download",
        between=SIMULATOR,
        says="A downloaded file may have a wrong byte; the SDK checks what comes, and says that it did not come.",
        reason="It stands for damage that no checksum of the SDK sees: before the object was stored, or on the disk after.",
        differs=_damage_arrives,
    ),
    Difference(
        name="simulator/open_uploads",
        between=SIMULATOR,
        says="An upload that dies leaves nothing; in S3 its parts stay until the bucket's lifecycle removes them.",
        reason="No key shows them, so no step can meet them. They cost, which the template's lifecycle rule bounds.",
        differs=_parts_stay,
    ),
    Difference(
        name="memory/item_size",
        between="backends in memory and SQLite, and DynamoDB",
        says="They take rows of any size; DynamoDB, and the simulator, up to 400 KB.",
        reason="The limit is DynamoDB's own. Guarantee G8 judges rows wherever they are kept.",
        differs=_no_sizes,
    ),
    Difference(
        name="simulator/item_size",
        between=SIMULATOR,
        says="The size of a row is counted to within some bytes a number or list.",
        reason="DynamoDB says of numbers no more than about how large they are; no row of ours is near the limit by so little.",
    ),
    Difference(
        name="simulator/index_lag",
        between=SIMULATOR,
        says="An index that is behind says what it said the time before; a real one may be behind for some rows only.",
        reason="What it says is confirmed by a read of the rows, so it matters only that it lacks rows and has old ones.",
    ),
    Difference(
        name="simulator/listing_lag",
        between=SIMULATOR,
        says="A provider's listing that is behind lacks the newest batch; a real one may lack several.",
        reason="A batch that is not listed is looked for again, each for itself. Behaviours may hide any batch for longer.",
    ),
    Difference(
        name="simulator/content_at_once",
        between=SIMULATOR,
        says="The file of a provider is read when it is asked for; the real one streams, and may break off later.",
        reason="A step uses nothing of a file that it has not read to its end, so a break is as if it had never begun.",
        differs=_read_whole,
    ),
    Difference(
        name="simulator/absent_file",
        between=SIMULATOR,
        says='A file id that a server spells "" stays so; the OpenAI backend makes it absent.',
        reason="Harsher than needed: steps must take both, since a backend of somebody else may pass it on.",
        differs=_empty_ids,
    ),
    Difference(
        name="simulator/no_advice",
        between=SIMULATOR,
        says="A refusal for load carries no advice for how long to wait; a provider's often does.",
        reason="Without advice the one retry policy decides, which is the harder case.",
        differs=_no_advice,
    ),
    Difference(
        name="simulator/no_embeddings",
        between=SIMULATOR,
        says="Questions can't be embedded.",
        reason="No step of a pipeline does; a search is not simulated.",
        differs=_not_embedding,
    ),
    Difference(
        name="simulator/untimed_looks",
        between=SIMULATOR,
        says="Counting and searching a collection take no time and meet no fault.",
        reason="No step of a pipeline does; judges do, and must not change what they look at.",
        differs=_untimed,
    ),
    Difference(
        name="simulator/half_merges",
        between=SIMULATOR,
        says="Half a merge in place shows; Chroma on a disk works on a copy, and shows none of it.",
        reason="A Chroma server shows it, and the port allows it: the harsher of the two is simulated.",
    ),
    Difference(
        name="simulator/latency",
        between=SIMULATOR,
        says="A call takes 2 ms to 6 s, or 30 s to 20 minutes where it is slow; no measurement of a service is behind that.",
        reason="Orders of calls are what is searched, and long tails give more of them. Nothing is concluded about speed.",
        differs=_quick,
    ),
    Difference(
        name="simulator/logs",
        between=SIMULATOR,
        says="Log groups and histories of executions are not simulated.",
        reason="No step reads them. The auditor does, and is tested on moto's and on recorded ones.",
        differs=_no_logs,
    ),
    Difference(
        name="moto/races",
        between=MOTO,
        says="It decides conditions without a lock, so two racing writers may both win.",
        reason="The tests let it answer one request at a time, as AWS does for one key.",
    ),
    Difference(
        name="moto/multipart_if_match",
        between=MOTO,
        says="It ignores `If-Match` when a multipart upload is completed.",
        reason="The tests look at what is sent.",
        differs=_moto_ignores_if_match,
    ),
    Difference(
        name="moto/no_conflict",
        between=MOTO,
        says="It never answers 409 to a conditional write, nor a redirect.",
        reason="The tests put these answers on the wire.",
    ),
    Difference(
        name="moto/no_lag",
        between=MOTO,
        says="Its index is never behind and nothing is throttled; `UnprocessedKeys` are always empty.",
        reason="The tests put these answers on the wire.",
    ),
    Difference(
        name="moto/batch_write",
        between=MOTO,
        says="It takes more than 25 items in a `BatchWriteItem`.",
        reason="It is never sent: rows are put one by one, each with its condition, so there are no unprocessed items.",
        differs=_moto_takes_more,
    ),
    Difference(
        name="moto/missing_index",
        between=MOTO,
        says="It says `ResourceNotFoundException` for a missing index, where DynamoDB says `ValidationException`.",
        reason="Both are understood.",
        differs=_moto_names_another_error,
    ),
    Difference(
        name="moto/update_size",
        between=MOTO,
        says="An update counts what it replaces along with what replaces it, up to 405,000 bytes.",
        reason="DynamoDB, and the simulator, count the row as it will be. The machine leaves such updates out.",
        differs=_moto_counts_twice,
    ),
)
