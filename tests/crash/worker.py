"""A process that forks quickly: it has imported everything once, and each job is a child that may kill itself.

Run as a script. It reads jobs as JSON lines, one list of jobs a line; it forks a child for each, waits for all and answers
with their exit statuses. A job is a small scenario on a real root; `kill_at` is the number of the write before which the
child sends itself SIGKILL, so that nothing of it runs any more: no `finally`, no flush, no farewell.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import chromadb  # noqa: F401  # here, so that the children need not
import chromadb.api.client
import chromadb.db.impl.sqlite
import pyarrow.compute  # noqa: F401

from embedpipe import events
from embedpipe.backends import wordllama_model
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config, build
from embedpipe.model import Kind, Record
from embedpipe.pipeline import Pipeline
from tests.harness import Watched, WatchedVectors

KIND = Kind("notes")
FLAGS = {
    "limits.requests_per_batch": 3,
    "limits.tokens_per_input": 20,
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
DISK_WRITES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate"})
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


@attrs.frozen
class StumblingProvider:
    """The local provider, which fails on record `a` with a 500 unless it comes alone: so there is a retry, always the same."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def content(self, file_id: str) -> Iterator[bytes]:
        lines = b"".join(self.inner.content(file_id)).splitlines(keepends=True)
        for line in lines:
            answer = json.loads(line)
            if answer["custom_id"] == "a" and len(lines) > 1:
                answer["response"] = {"status_code": 500, "request_id": "x", "body": {}}
                line = json.dumps(answer).encode() + b"\n"
            yield line


# --- the scenario --------------------------------------------------------------------------------------------------


def submissions(names: Sequence[str]) -> dict[str, list[Record]]:
    """Two submissions by execution id. `e` is too long for the model; in the second, `b` and `d` have other texts."""
    first = {name: f"the text of {name}" for name in names} | {"e": "very " * 40 + "long"}
    second = first | {name: f"another text of {name}" for name in ("b", "d") if name in first}
    return {
        number: [Record(id=name, text=text) for name, text in texts.items()]
        for number, texts in (("s1", first), ("s2", second))
    }


def opened(job: dict[str, Any], writes: Writes) -> Pipeline:
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
    reported = root / "ambiguous"

    def note(event: events.RunEvent) -> None:
        if isinstance(event, events.AmbiguousCreate):
            with reported.open("a") as stream:
                stream.write(event.batch_id + "\n")

    return Pipeline(watched, config, kind=KIND, on_event=note)


def two_submissions(job: dict[str, Any], writes: Writes) -> None:
    """Submit, run to the end, submit again with changes, run to the end. Run again after a crash, it goes on."""
    with opened(job, writes) as pipe:
        for number, records in submissions("abcdef").items():
            pipe.submit(records, execution_id=number)
            pipe.run(timeout_s=60)


def overlapping(job: dict[str, Any], writes: Writes) -> None:
    """One of several processes at a time: submissions of its own that overlap with the others', and executions in between."""
    chance = random.Random(job["seed"])
    with opened(job, writes) as pipe:
        for number in range(job["rounds"]):
            names = chance.sample([f"r{index}" for index in range(20)], 8)
            texts = {name: chance.choice(["one", "two", "three"]) for name in names}
            said = [Record(id=name, text=f"{name} says {text}") for name, text in texts.items()]
            report = pipe.submit(said, execution_id=f"p{job['process']}-{number}")
            with Path(job["root"], "said").open("a") as stream:
                stream.write(json.dumps([report.seq, {record.id: record.text for record in said}]) + "\n")
            if chance.random() < 0.5:
                pipe.ingest()
        pipe.run(timeout_s=120)


SCENARIOS = {"two_submissions": two_submissions, "overlapping": overlapping}


# --- the server ----------------------------------------------------------------------------------------------------


def child(job: dict[str, Any]) -> int:
    """One job, in a process of its own."""
    log = Path(job["log"]) if "log" in job else None
    writes = Writes(job.get("kill_at"), log)
    if job.get("inside"):
        writes.audit(Path(job["root"]))
    try:
        SCENARIOS[job["scenario"]](job, writes)
    except BaseException:
        Path(job["root"], f"traceback-{os.getpid()}").write_text(traceback.format_exc())
        return 1
    return 0


def serve() -> None:
    loaded = wordllama_model._load()
    wordllama_model._load = lambda: loaded  # the children share the weights
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
