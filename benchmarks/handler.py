"""One poll handler with a result file of 50,000 vectors of 1,536: the most memory that its process held.

The handler, the steps and the S3 and DynamoDB backends are the real ones; S3 answers in this process and keeps no part of an
upload. The provider makes its lines while they are read, with shuffled ids.

    python -m benchmarks.handler
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse, HeadersDict

from benchmarks.aws_calls import REGION, Raw
from benchmarks.measure import MIB, WORDS, Figure, peak_bytes
from benchmarks.parse import DIMENSIONS, sample
from embedpipe.aws.handlers import handler
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.layout import SEED
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, EmbeddingModel, Kind, ProviderBatch, RequestCounts
from embedpipe.steps.context import Context
from embedpipe.vectors import records_schema, sha256_file, write_arrow
from embedpipe.wire import Result

KIND, MODEL, BATCH = Kind("bench"), EmbeddingModel(name="scripted", dimensions=DIMENSIONS), "b1"
POLLED = "import sys\nfrom benchmarks.handler import poll\npoll(sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'base64')"
LIMIT_MIB = 512
BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
ENDED = b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'


def write_records(path: Path, count: int) -> None:
    """The record file of a batch, with texts of about 60 characters."""
    import pyarrow as pa

    rng = random.Random(0)
    columns = [
        pa.array([f"article-{at:08d}" for at in range(count)]),
        pa.array([1] * count, pa.int64()),
        pa.array([1] * count, pa.int32()),
        pa.array([1] * count, pa.int32()),
        pa.array([b"0" * 16] * count, pa.binary(16)),
        pa.array([" ".join(rng.choices(WORDS, k=12))[:60] for _ in range(count)]),
        pa.array([""] * count),
    ]
    rows = pa.table(columns, schema=records_schema())
    write_arrow(path, rows.schema, rows.to_batches(max_chunksize=2_048))


class EndedProvider:
    """A provider with one batch that is completed. Of the port, only what a poll calls."""

    def __init__(self, count: int, *, packed: bool) -> None:
        self._count = count
        self._lines = sample(packed)

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """It is completed."""
        counts = RequestCounts(total=self._count, completed=self._count)
        return ProviderBatch(id=provider_batch_id, status="completed", output_file_id="out", counts=counts)

    def content(self, _: str) -> Iterator[bytes]:
        """Its lines, in an order of their own."""
        order = list(range(self._count))
        random.Random(0).shuffle(order)
        for number, at in enumerate(order):
            line = self._lines[number % len(self._lines)]
            yield re.sub(rb'"rec-\d+"', f'"article-{at:08d}"'.encode(), line, count=1)


class Stores:
    """S3 as a few answers: the record file, and small objects by key. Parts are counted and forgotten."""

    def __init__(self, records: Path) -> None:
        self.kept: dict[str, bytes] = {}
        self.records = records
        self.uploaded_bytes = 0
        self._answers: Mapping[str, Callable[[str, Any], tuple[int, bytes]]] = {
            "GetObject": self._get,
            "PutObject": self._put,
            "CreateMultipartUpload": lambda _, __: (200, BEGUN),
            "UploadPart": self._take_part,
            "CompleteMultipartUpload": lambda _, __: (200, ENDED),
        }

    def answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        """The `before-send` hook."""
        key = request.url.partition("?")[0].split("/", 3)[3]
        status, body = self._answers[event_name.rpartition(".")[2]](key, request)
        headers = {"ETag": '"e"', "Content-Length": str(len(body))}
        return AWSResponse(request.url, status, HeadersDict(headers), Raw(body))

    def _get(self, key: str, _: Any) -> tuple[int, bytes]:
        """What was kept, or the records."""
        if key == SEED.records_key(BATCH):
            return 200, self.records.read_bytes()
        return (200, self.kept[key]) if key in self.kept else (404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _put(self, key: str, request: Any) -> tuple[int, bytes]:
        """Keep it."""
        self.kept[key] = request.body.read()
        return 200, b""

    def _take_part(self, _: str, request: Any) -> tuple[int, bytes]:
        """Forget it."""
        self.uploaded_bytes += len(request.body.read())
        return 200, b""


def poll(records: str, count: int, packed: bool) -> None:
    """One invocation of the poll handler."""
    stores = Stores(Path(records))
    session = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name=REGION)
    session.events.register("before-send", stores.answer)
    clock, table, provider = MemoryClock(), MemoryBatchTable(), EndedProvider(count, packed=packed)
    table.put_new(_row(count, Path(records)))
    ctx = Context(
        kind=KIND,
        model=MODEL,
        objects=S3BlobStore("bench", region=REGION, session=session),
        table=table,
        provider=provider,  # type: ignore[arg-type]  # see its docstring
        vectors=MemoryVectorStore(),
        clock=clock,
    )
    reference = handler("poll", lambda: ctx)({"batch_id": BATCH, "execution_id": "e1"}, None)
    result = Result.load(stores.kept[reference["result_s3_key"]], "result")
    if (
        result.embedding_count != count
        or stores.uploaded_bytes + sum(map(len, stores.kept.values())) < count * DIMENSIONS * 4
    ):
        raise AssertionError(f"{result.embedding_count} of {count} vectors, {stores.uploaded_bytes} bytes in parts")


def _row(count: int, records: Path) -> BatchRow:
    return BatchRow(
        batch_id=BATCH,
        batch_type=KIND.batch_type,
        status=Status.PENDING,
        provider_batch_id="batch_1",
        request_count=count,
        records_sha256=sha256_file(records),
        seq=1,
        collection=KIND.collection,
        database=KIND.database,
        model=MODEL.name,
        dimensions=DIMENSIONS,
    )


def run(count: int = 50_000, few: int = 2_000, shapes: Sequence[str] = ("floats", "base64")) -> list[Figure]:
    """Peaks of fresh processes, their imports and mapped files included."""
    if sys.platform != "linux":
        return []
    figures = []
    with tempfile.TemporaryDirectory() as name:
        for lines in (few, count):
            write_records(Path(name, f"{lines}.arrow"), lines)
        for shape in shapes:
            short, long = (peak_bytes(POLLED, str(Path(name, f"{n}.arrow")), str(n), shape) for n in (few, count))
            figures.append(
                Figure(
                    f"poll handler, {count:,} x {DIMENSIONS:,} in {shape}: peak memory",
                    long / MIB,
                    LIMIT_MIB,
                    unit="MiB",
                    note=f"{short / MIB:.0f} MiB for {few:,}",
                )
            )
    return figures


if __name__ == "__main__":
    for figure in run():
        print(figure)
