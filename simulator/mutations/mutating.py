"""Mutations of all stages and steps, and what becomes of each under the simulator's judges.

One is killed by the first run that does not hold, or by a run that never ends; else it survives the runs that it was given, or
no run ever reached it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final

import attrs

from simulator.mutations.operators import Mutation
from simulator.mutations.places import source_of
from simulator.mutations.reaching import Reach, Statements
from simulator.mutations.survivors import survivor_of

__all__ = ["Fate", "mutated", "run_on"]

SEEDS_PER_RUN: Final = 10
"""[ours] So many times as many seeds are looked at for those that come by a mutation, as it is run."""


@attrs.frozen(kw_only=True)
class Fate:
    """What became of one mutation."""

    name: str
    line: int
    before: str
    after: str
    runs: int
    """That it took, or survived."""
    reached: bool
    by: str
    """safety, liveness, crash or hang; empty where nothing killed it."""
    broken: str

    @property
    def word(self) -> str:
        """killed, survived or not reached."""
        return "killed" if self.by else "survived" if self.reached else "not reached"

    @property
    def unlisted(self) -> bool:
        """Whether nothing killed it, and nobody has said why."""
        return not self.by and survivor_of(self.name) is None

    @property
    def place(self) -> str:
        """killed, or the word of its line: the column of a table that counts it."""
        line = survivor_of(self.name)
        return "killed" if self.by else line.word.value if line is not None else "unlisted"

    @property
    def verdict(self) -> str:
        """What the table of survivors says of it."""
        line = survivor_of(self.name)
        return f"{line.word}: {line.reason}" if line is not None else "nobody has said why"


def mutated(chosen: Sequence[Mutation], *, runs: int, jobs: int = 1) -> Iterator[Fate]:
    """The fate of each, as it becomes known. Each is run `runs` times at most, where seeds come by it."""
    reach = _reach(runs) if chosen else Reach(most=runs, seeds={})
    statements = {module: Statements(source_of(module)) for module in {one.module for one in chosen}}
    placed = [(one, reach.of(one, statements[one.module])) for one in chosen]
    for one, seeds in placed:
        if not seeds:
            yield Fate(
                name=one.name,
                line=one.line,
                before=one.before,
                after=one.after,
                runs=0,
                reached=False,
                by="",
                broken="",
            )
    yield from run_on([(one, seeds) for one, seeds in placed if seeds], jobs)


def _reach(runs: int) -> Reach:
    """In a process of its own, since the code is changed to note where it is."""
    command = [sys.executable, "-m", "simulator.mutations.reaching", str(runs * SEEDS_PER_RUN), str(runs)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return Reach(most=runs, seeds=json.loads(ended.stdout))


def run_on(placed: Sequence[tuple[Mutation, Sequence[int]]], jobs: int = 1) -> Iterator[Fate]:
    """The fate of each on these seeds."""
    waiting = iter(placed)
    fates: SimpleQueue[Fate | None] = SimpleQueue()

    def work() -> None:
        command = [sys.executable, "-m", "simulator.mutations.forking"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            for mutation, seeds in waiting:
                worker.stdin.write(json.dumps({"mutation": attrs.asdict(mutation), "seeds": list(seeds)}) + "\n")
                worker.stdin.flush()
                said: dict[str, Any] = json.loads(worker.stdout.readline())
                fates.put(Fate(**said))
            worker.stdin.close()

    with ThreadPoolExecutor(jobs) as pool:
        done = [pool.submit(work) for _ in range(jobs)]
        for each in done:
            each.add_done_callback(lambda _: fates.put(None))
        left = jobs
        while left:
            fate = fates.get()
            if fate is None:
                left -= 1
            else:
                yield fate
        for each in done:
            each.result()
