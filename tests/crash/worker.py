"""A process that forks quickly: it has imported everything once, and each job is a child that may kill itself.

Run as a script. It reads jobs as JSON lines, one list of jobs a line; it forks a child for each, waits for all and answers
with their exit statuses. A job is a small scenario on a real root; `kill_at` is the number of the write before which the
child sends itself SIGKILL, so that nothing of it runs any more: no `finally`, no flush, no farewell.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

import embedpipe
from embedpipe import events
from embedpipe.backends import chroma_client, wordllama_model
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config, build
from embedpipe.model import Kind, Record
from embedpipe.pipeline import Pipeline
from tests.harness import Watched, WatchedVectors
from verify.invariants import World, check, observe

Job = dict[str, Any]

KIND = Kind("notes")
SHARED = [f"r{number}" for number in range(20)]
AMBIGUOUS, SAID, REPORT = "ambiguous.txt", "said.jsonl", "report.json"
"""Files that jobs leave in their root."""
FLAGS = {
    "limits.requests_per_batch": 3,
    "policy.ambiguous_after_s": 0.2,
    "provider.dimensions": 64,
    "provider.send_dimensions": True,
    "retry.first_delay_s": 0.01,
    "run.poll_interval_s": 0.05,
    "run.threads": 1,
}
WRITES = (
    "objects.put",
    "objects.upload",
    "objects.delete",
    "table.put_new",
    "table.update",
    "provider.upload",
    "provider.create",
    "provider.retrieve",  # the local provider computes a batch when it is asked for it
    "collection.upsert",
    "edition.seal",
)
DISK_WRITES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink"})
"""Audit events of the interpreter: the steps inside one write of files, provider and vector store."""


# --- counting writes, and dying at one -----------------------------------------------------------------------------


class Writes:
    """Counts the writes of this process and ends it before number `kill_at`; stands where `Faults` stands in other tests."""

    def __init__(self, kill_at: int | None, log: Path | None) -> None:
        self.count = 0
        self._kill_at = kill_at
        self._log = log

    def around(self, effect: str, argument: str, call: Callable[[], Any]) -> Any:
        if effect in WRITES:
            self.note(f"{effect} {argument}".strip())
        return call()

    def note(self, what: str) -> None:
        self.count += 1
        if self._log is not None:
            with self._log.open("a") as stream:
                stream.write(what + "\n")
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, root: Path) -> None:
        """Count what the interpreter does to the disk below `root`, too."""
        start = str(root)
        busy = False

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal busy
            if busy or event not in DISK_WRITES:
                return
            busy = True  # the log is a file, too
            names = [os.fsdecode(one) for one in arguments if isinstance(one, str | bytes | Path)]
            if any(name.startswith(start) or not name.startswith("/") for name in names):
                self.note(f"{event} {names[-1].removeprefix(start)}")
            busy = False

        sys.addaudithook(hook)


# --- the provider --------------------------------------------------------------------------------------------------

ALWAYS_REFUSED = ("e",)
STUMBLES = ("a", "r3")


@attrs.frozen
class StumblingProvider:
    """The local provider, but one record gets a 400, and some get a 500 unless they come alone: always the same retries."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def content(self, file_id: str) -> Iterator[bytes]:
        lines = b"".join(self.inner.content(file_id)).splitlines(keepends=True)
        for line in lines:
            answer = json.loads(line)
            name = answer["custom_id"]
            stumbles = name in STUMBLES and len(lines) > 1
            if "response" in answer and (stumbles or name in ALWAYS_REFUSED):
                answer["response"] = {"status_code": 500 if stumbles else 400, "request_id": "x", "body": {}}
                line = json.dumps(answer).encode() + b"\n"  # noqa: PLW2901  the same line, spoilt
            yield line


# --- the scenarios -------------------------------------------------------------------------------------------------


def submissions() -> dict[str, list[Record]]:
    """Two submissions by execution id; in the second, `b` and `d` have other texts."""
    first = {name: f"the text of {name}" for name in "abcdef"}
    second = first | {name: f"another text of {name}" for name in "bd"}
    return {
        number: [Record(id=name, text=text) for name, text in texts.items()]
        for number, texts in (("s1", first), ("s2", second))
    }


def opened(job: Job, writes: Writes) -> Pipeline:
    """A pipeline on real backends below the job's root, whose writes are counted."""
    root = Path(job["root"])
    config = Config.load(root, flags=FLAGS | job.get("flags", {}), env={})
    backends = build(config, clock=SystemClock())
    watched = attrs.evolve(
        backends,
        objects=Watched(backends.objects, "objects", writes),
        table=Watched(backends.table, "table", writes),
        provider=Watched(StumblingProvider(backends.provider), "provider", writes),
        vectors=WatchedVectors(backends.vectors, writes),
    )

    def note(event: events.RunEvent) -> None:
        if isinstance(event, events.AmbiguousCreate):
            append(root / AMBIGUOUS, event.batch_id)

    return Pipeline(watched, config, kind=KIND, on_event=note)


def append(path: Path, line: str) -> None:
    with path.open("a") as stream:
        stream.write(line + "\n")


def two_submissions(job: Job, writes: Writes) -> None:
    """Submit, run to the end, submit again with changes, run to the end. Run again after a crash, it goes on."""
    with opened(job, writes) as pipe:
        for number, records in submissions().items():
            pipe.submit(records, execution_id=number)
            pipe.run(timeout_s=60)


def overlapping(job: Job, writes: Writes) -> None:
    """One of several processes: submissions that overlap with the others', executions in between, and a run to the end."""
    chance = random.Random(job["seed"] * 10 + job["process"])
    with opened(job, writes) as pipe:
        for number in range(job["rounds"]):
            texts = {name: chance.choice(["one", "two", "three"]) for name in chance.sample(SHARED, 8)}
            records = [Record(id=name, text=f"{name} says {text}") for name, text in texts.items()]
            report = pipe.submit(records, execution_id=f"p{job['process']}-{number}")
            said = {record.id: record.text for record in records}
            append(Path(job["root"], SAID), json.dumps([report.seq, said]))
            if chance.random() < 0.5:
                pipe.ingest()
        pipe.run(timeout_s=120)


def ingesting(job: Job, writes: Writes) -> None:
    """One of several processes: nothing but executions."""
    with opened(job, writes) as pipe:
        for _ in range(job["rounds"]):
            pipe.ingest()


def reporting(job: Job, writes: Writes) -> None:
    """Write down what the root holds, and which guarantees are broken."""
    root = Path(job["root"])
    with opened(job, writes) as pipe:
        ctx = pipe.context
        creates = [batch.metadata["batch_id"] for batch in ctx.provider.list()]
        ambiguous = (root / AMBIGUOUS).read_text().split() if (root / AMBIGUOUS).exists() else []
        world = observe(
            kind=KIND,
            objects=ctx.objects,
            table=ctx.table,
            vectors=ctx.vectors,
            creates=creates,
            ambiguous=ambiguous,
        )
        report = {
            "violations": [str(violation) for violation in check(world, settled=True)],
            "rows": rows(world),
            "catalog": {
                name: [entry.claim.seq, entry.claim.attempt, entry.content_hash.hex()]
                for name, entry in world.catalog.items()
            },
            "collection": collection(pipe, world.latest.version if world.latest else ""),
            "rejected": {
                name: entry.reason for delta in world.deltas.values() for name, entry in delta.rejected.items()
            },
            "creates": creates,
            "ambiguous": ambiguous,
        }
    (root / REPORT).write_text(json.dumps(report, sort_keys=True))


def rows(world: World) -> list[Any]:
    """Status, claim, reason and records of each batch, in an order of their own."""
    found = []
    for name, row in world.rows.items():
        held = sorted(record.id for record in world.records[name])
        found.append([row.seq, row.attempt, held, str(row.status), row.provider_status])
    return sorted(found)


def collection(pipe: Pipeline, version: str) -> dict[str, Any]:
    """Text and vector of each row."""
    ctx = pipe.context
    with ctx.vectors.reading(KIND.database, KIND.collection, version=version) as opened_collection:
        found = opened_collection.get(list(opened_collection.ids()))
    return {
        name: [document, hashlib.sha256(vector.tobytes()).hexdigest()]
        for name, document, vector in zip(found.ids, found.documents, found.vectors, strict=True)
    }


SCENARIOS: Mapping[str, Callable[[Job, Writes], None]] = {
    scenario.__name__: scenario for scenario in (two_submissions, overlapping, ingesting, reporting)
}


# --- the server ----------------------------------------------------------------------------------------------------


def child(job: Job) -> int:
    """One job, in a process of its own."""
    log = Path(job["log"]) if "log" in job else None
    writes = Writes(job.get("kill_at"), log)
    if job.get("inside"):
        writes.audit(Path(job["root"]))
    try:
        for name in job["scenarios"]:
            SCENARIOS[name](job, writes)
    except BaseException:  # noqa: BLE001  whatever it is, the parent is told
        Path(job["root"], f"traceback-{os.getpid()}").write_text(traceback.format_exc())
        return 1
    return 0


LATE = (
    "chromadb",
    "chromadb.api.rust",
    "chromadb_rust_bindings",
    "csimdjson",
    "numpy.ma",
    "pyarrow.compute",
    "simdjson",
)
"""Imported by functions when they need them."""


def preload() -> None:
    """Import what the children would import, and load the weights that they share. Opens nothing and starts no thread."""
    ours = (found.name for found in pkgutil.walk_packages(embedpipe.__path__, "embedpipe."))
    for name in (*LATE, *ours):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    chroma_client._settings()
    loaded = wordllama_model._load()
    wordllama_model._load = lambda: loaded
    gc.freeze()  # else each child's first collection would copy all of it


def serve() -> None:
    preload()
    for line in sys.stdin:
        pids = []
        for job in json.loads(line):
            pid = os.fork()
            if pid == 0:
                os._exit(child(job))
            pids.append(pid)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(statuses), flush=True)  # noqa: T201  # the answer


if __name__ == "__main__":
    serve()
