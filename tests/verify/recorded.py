"""Executions that really ran: the state machines over moto, once for all tests, and copies to plant faults in.

Histories are kept as Step Functions gives them, log lines as the mark step wrote them, objects and rows as they were.
"""

from __future__ import annotations

import copy
import json
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any, Final

import attrs

from embedpipe.aws import state_machine
from embedpipe.backends.memory.behaviour import GOOD
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import Unavailable
from embedpipe.limits import Limits
from embedpipe.model import Record
from tests.aws.cloud import Cloud, QuickWorld, cloud
from tests.aws.functions import put_records
from tests.worlds import CONFIG, KIND, SmallWorld
from verify.audit.api import check
from verify.audit.ports import LogLine, Run
from verify.audit.report import Report
from verify.audit.sources import Source
from verify.sources.memory import MemoryHistories, MemoryLogs

GROUP: Final = "/aws/lambda/mark"
ONE_EACH: Final = attrs.evolve(
    CONFIG, limits=Limits(requests_per_batch=1), policy=attrs.evolve(CONFIG.policy, chunk_rows=2, merge_rows=5)
)


class Lines(logging.Handler):
    """What the functions log, as it would reach their log group."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Lines:
        self._logger = logging.getLogger("embedpipe.mark_complete")
        self._before = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)


@attrs.define(kw_only=True)
class Recorded:
    """What was recorded."""

    world: SmallWorld
    machines: dict[str, list[Run]] = attrs.field(factory=dict)
    histories: dict[str, list[dict[str, Any]]] = attrs.field(factory=dict)
    lines: list[LogLine] = attrs.field(factory=list)


class Recorder:
    """Runs machines and keeps what they leave."""

    def __init__(self, made: Cloud, world: SmallWorld, lines: Lines) -> None:
        self.cloud, self.world, self._lines = made, world, lines
        self.kept = Recorded(world=world)
        self.machines: dict[str, str] = {}

    def deploy(self, definition: Any, name: str) -> None:
        self.machines[name] = self.cloud.deploy(definition, name)
        self.kept.machines[self.machines[name]] = []

    def run(self, machine: str, name: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
        started = self.world.clock.now()
        ended = self.cloud.run(self.machines[machine], name, given)
        self.world.clock.sleep(1)
        arn = str(ended["executionArn"])
        run = Run(arn=arn, name=name, status=ended["status"], started_at=started, stopped_at=self.world.clock.now())
        self.kept.machines[self.machines[machine]].append(run)
        self.kept.histories[arn] = json.loads(json.dumps(self.cloud.history(arn), default=str))
        self.kept.lines += [LogLine(at=self.world.clock.now(), message=text) for text in self._lines.lines]
        self._lines.lines.clear()
        return ended

    def submit(self, ids: str, name: str) -> dict[str, Any]:
        event = put_records(self.world, [Record(id=each, text=f"text of {each}") for each in ids.split()], name)
        return self.run("submit", name, {"records_s3_key": event["records_s3_key"]})


@cache
def recorded() -> Recorded:
    """Two submissions, an execution without a batch, one of whose polls fails for good, one that fails, and healthy ones."""
    worlds: list[SmallWorld] = []
    with (
        Lines() as lines,
        cloud(lambda: worlds[0].pipeline().context, sleep=lambda _: None) as made,
    ):
        worlds.append(QuickWorld(lambda *_: attrs.evolve(GOOD, running=()), config=ONE_EACH))
        worlds[0].objects.clock = worlds[0].clock
        recorder = Recorder(made, worlds[0], lines)
        recorder.deploy(state_machine.submit(KIND), "submit")
        recorder.deploy(state_machine.ingest(KIND), "ingest")
        assert recorder.run("ingest", "empty")["status"] == "SUCCEEDED"
        recorder.submit("a b c d e", "s1")
        made.deliver = failing("poll", lambda event: event.get("index") == 0)
        assert recorder.run("ingest", "poll-fails")["status"] == "SUCCEEDED"
        made.deliver = failing("final_merge", lambda _: True)
        recorder.submit("f g", "s2")
        assert recorder.run("ingest", "fails")["status"] == "FAILED"
        made.deliver = failing("mark_complete", lambda _: True, times=1)
        assert recorder.run("ingest", "retried")["status"] == "SUCCEEDED"
        made.deliver = failing("", lambda _: False)
        recorder.submit("h i", "s3")
        assert recorder.run("ingest", "healthy")["status"] == "SUCCEEDED"
    assert worlds[0].violations(settled=True) == []
    return recorder.kept


def failing(step: str, when: Callable[[Any], bool], times: int = 1_000) -> Any:
    """Deliveries to a step that fail as a store does that is not there."""
    left = [times]

    def deliver(name: str, event: Any, handle: Any) -> Any:
        if name == step and when(event) and left[0] > 0:
            left[0] -= 1
            raise Unavailable("The store is away.")
        return handle(event, None)

    return deliver


class Told:
    """A copy of what was recorded, and the words to change it. `seed` chooses the execution that is hit."""

    def __init__(self, seed: int = 0) -> None:
        kept = recorded()
        self.random = random.Random(seed)
        self.world = kept.world
        self.layout = kept.world.config.layout
        self.objects = MemoryBlobStore(clock=kept.world.clock)
        for key, data in kept.world.objects.contents().items():
            self.objects.write_raw(key, data)
        self.table = MemoryBatchTable()
        for row in kept.world.observe().rows.values():
            item = kept.world.table.read_raw(row.batch_id)
            assert item is not None
            self.table.write_raw(item)
        self.histories = MemoryHistories(
            machines={name: list(runs) for name, runs in kept.machines.items()},
            histories={arn: copy.deepcopy(events) for arn, events in kept.histories.items()},
            page=50,
        )
        self.logs = MemoryLogs(groups={GROUP: list(kept.lines)}, page=3)
        self.name = self.random.choice(["poll-fails", "retried", "healthy"])
        """The execution that is hit: one that marked something."""

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The execution that is hit."""
        ingests = [runs for arn, runs in self.histories.machines.items() if arn.endswith(":ingest")]
        return next(run for runs in ingests for run in runs if run.name == self.name)

    @property
    def events(self) -> list[Any]:
        """Its events, to be changed in place."""
        return self.histories.histories[self.run.arn]  # type: ignore[return-value]

    def json(self, key: str) -> Any:
        return json.loads(self.objects.get(key).data)

    def put_json(self, key: str, value: Any) -> None:
        self.objects.write_raw(key, json.dumps(value).encode())

    @property
    def eligible(self) -> set[str]:
        """Batches that its mark step should look at."""
        return {one["batch_id"] for one in self.quoted if one["action"] != "wait"}

    @property
    def quoted(self) -> list[Any]:
        found: list[Any] = self.json(self.layout.poll_results_key(self.name))
        return found

    # --- changing --------------------------------------------------------------------------------------------------

    def states(self, since: str, change: Callable[[Any], Any], until: str = "\uffff") -> None:
        """Change the state on its way, from where the first state of that name is left to the mark step's entry."""
        begun = False
        for event in self.events:
            for way in ("Entered", "Exited"):
                details = event.get(f"state{way}EventDetails")
                if details is None or event["type"].startswith("MapIteration"):
                    continue
                if begun and not self._iterates(event):
                    field = "input" if way == "Entered" else "output"
                    with suppress(KeyError, TypeError):
                        details[field] = json.dumps(change(json.loads(details[field])))
                if until in details["name"] and way == "Entered":
                    return
                begun = begun or (since in details["name"] and way == "Entered")

    def _iterates(self, event: Any) -> bool:
        details = event.get("stateEnteredEventDetails") or event.get("stateExitedEventDetails")
        return "Item" in details["name"]

    def payloads(self, state: str, change: Callable[[Any], Any]) -> None:
        """Change what the functions of a state return."""
        now = ""
        for event in self.events:
            now = event.get("stateEnteredEventDetails", {}).get("name", now)
            for name in ("taskSucceededEventDetails", "lambdaFunctionSucceededEventDetails"):
                if state in now and name in event:
                    event[name]["output"] = json.dumps(change(json.loads(event[name]["output"])))

    def given(self, state: str, change: Callable[[Any], Any]) -> None:
        """Change what the functions of a state are given."""
        now = ""
        for event in self.events:
            now = event.get("stateEnteredEventDetails", {}).get("name", now)
            for name, field in (
                ("taskScheduledEventDetails", "parameters"),
                ("lambdaFunctionScheduledEventDetails", "input"),
            ):
                if state in now and name in event:
                    event[name][field] = json.dumps(change(json.loads(event[name][field])))

    def drop_row_end(self, batch_id: str) -> None:
        """Open a row again, as if nobody had marked it."""
        item = dict(self.table.read_raw(batch_id) or {})
        item |= {"status": "PENDING", "GSI1PK": "STATUS#PENDING"}
        item.pop("completed_by", None)
        self.table.write_raw(item)

    # --- auditing --------------------------------------------------------------------------------------------------

    def source(self, **changes: Any) -> Source:
        ports = {
            "objects": self.objects,
            "table": self.table,
            "vectors": self.world.vectors,
            "histories": self.histories,
            "machines": tuple(self.histories.machines),
            "logs": self.logs,
            "log_groups": tuple(self.logs.groups),
        }
        return Source.over("recorded", clock=self.world.clock, policy=self.world.config.policy, **{**ports, **changes})

    def audited(self, *, changes: Any = None, **options: Any) -> Report:
        return check(self.source(**(changes or {})), **{"grace_s": -1.0, "depth": "content", **options})


LATER: Final = timedelta(days=1)
