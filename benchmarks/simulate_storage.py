"""A simulated run of 62 batches, beside the calls that it made to its stores alone, made again of S3 and DynamoDB in moto.

The calls are recorded where they happen, in their order, and made again by the package's own backends. ETags that a condition
names are those which moto gave.

python -m benchmarks.simulate_storage
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import boto3
import greenlet
from moto import mock_aws

from benchmarks.ingest_calls import BUCKET, REGION, TABLE, _make_stores
from benchmarks.measure import Figure, cpu_s
from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.errors import EmbedpipeError
from embedpipe.limits import Limits
from simulator import world
from simulator.records import numbered
from simulator.runs import Verdict
from simulator.runs import run as simulated
from simulator.scenarios import SCENARIOS

BATCHES = 62
SCENARIO = attrs.evolve(
    SCENARIOS["seed62"],
    submissions=1,
    records=BATCHES,
    draw=numbered,
    executions=1,
    limits=Limits(requests_per_batch=1),
)
OBJECTS = ("get", "put", "list", "delete", "upload", "download")
TABLE_CALLS = ("put_new", "get_many", "by_status", "update")


@attrs.frozen
class Call:
    """One call to a store, and the ETag that it gave."""

    on: str
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    data: bytes = b""
    """Of a file that goes up."""
    etag: str = ""


def recorded() -> list[Call]:
    """Those of a run without faults, but not those by which its judges look at what is there."""
    calls: list[Call] = []
    with _recording("WatchedObjects", OBJECTS, calls), _recording("WatchedTable", TABLE_CALLS, calls):
        _run()
    return calls


def _run() -> None:
    outcome = simulated(SCENARIO, 7, "none")
    if outcome.verdict is not Verdict.HELD:
        raise AssertionError(f"the run of {BATCHES} batches did not hold: {outcome.broken}")


@contextmanager
def _recording(store: str, names: tuple[str, ...], calls: list[Call]) -> Iterator[None]:
    kept = getattr(world, store)
    inside: list[str] = []  # what a store asks of itself or of another is no call of the run

    def noted(name: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            mine = not inside and greenlet.getcurrent().parent is not None
            data = Path(args[1]).read_bytes() if mine and name == "upload" else b""
            inside.append(name)
            try:
                result = getattr(kept, name)(self, *args, **options)
            finally:
                inside.pop()
            if mine:
                etag = result if isinstance(result, str) else getattr(result, "etag", "")
                calls.append(Call(store, name, args, options, data, etag))
            return result

        return call

    setattr(world, store, type(store, (kept,), {name: noted(name) for name in names}))
    try:
        yield
    finally:
        setattr(world, store, kept)


def again(calls: list[Call]) -> Counter[str]:
    """Make these calls of moto: how many there were of each kind, and how many ended with an error that has a name."""
    said: Counter[str] = Counter()
    with mock_aws(), tempfile.TemporaryDirectory() as folder:
        session = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name=REGION)
        _make_stores(session)
        stores: dict[str, Any] = {
            "WatchedObjects": S3BlobStore(BUCKET, region=REGION, session=session),
            "WatchedTable": DynamoDBBatchTable(TABLE, MemoryClock(), region=REGION, session=session),
        }
        etags: dict[str, str] = {}
        for call in calls:
            said[call.name] += 1
            try:
                result = _one(stores[call.on], call, etags, Path(folder))
            except EmbedpipeError:
                said["errors"] += 1
                continue
            if call.etag:
                etags[call.etag] = result if isinstance(result, str) else result.etag
    return said


def _one(store: Any, call: Call, etags: dict[str, str], folder: Path) -> Any:
    options = dict(call.options)
    if wanted := options.get("if_match"):
        options["if_match"] = etags.get(wanted, wanted)
    args = call.args
    if call.name in ("upload", "download"):
        args = (args[0], folder / "file")
        args[1].unlink(missing_ok=True)
        if call.name == "upload":
            args[1].write_bytes(call.data)
    result = getattr(store, call.name)(*args, **options)
    return list(result) if call.name in ("list", "by_status") else result


def run(rounds: int = 3) -> list[Figure]:
    """CPU of the calls in moto over that of the whole run, its judges included."""
    calls = recorded()
    said: list[Counter[str]] = []
    turns = [(cpu_s(lambda: said.append(again(calls))), cpu_s(_run)) for _ in range(rounds)]
    moto_s, run_s = (statistics.median(values) for values in zip(*turns, strict=True))
    note = f"{len(calls):,} calls, {1e3 * moto_s / len(calls):.2f} ms each in moto; the run takes {run_s:.2f} s"
    return [
        Figure(
            "simulator: the storage calls of 62 batches in moto, over the whole run",
            moto_s / run_s,
            100,
            at_least=True,
            note=note,
        )
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
