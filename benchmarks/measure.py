"""What the benchmarks share: CPU seconds taken in turns, peaks of memory of a new process, and figures with their targets."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "small",
    "birds",
    "sing",
)
"""What texts are made of."""


@attrs.frozen
class Figure:
    """One measured number beside its target."""

    name: str
    value: float
    target: float
    at_least: bool = False
    """Whether the target is a lower bound."""
    unit: str = "x"
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def bound(self) -> str:
        """The target in words."""
        return f"{'≥' if self.at_least else '≤'} {self.target:g} {self.unit}"


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of this process and its threads while `work` runs."""
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def ratio(ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int) -> float:
    """CPU time of `ours` over that of `theirs`: the median of rounds in which both take turns."""
    turns = []
    for _ in range(rounds):
        before_s, ours_s, after_s = cpu_s(theirs), cpu_s(ours), cpu_s(theirs)
        turns.append(2 * ours_s / (before_s + after_s))
    return statistics.median(turns)


def child_cpu_s(command: list[str]) -> float:
    """CPU seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def python(code: str, *arguments: str) -> list[str]:
    """The command that runs `code` in a new interpreter."""
    return [sys.executable, "-c", code, *arguments]


# Not getrusage: on Linux its figure survives exec, so a child would begin with the memory of the benchmark itself.
PEAK = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"


def peak_bytes(code: str, *arguments: str) -> int:
    """Most memory that a new interpreter held while it ran `code`. Linux only."""
    command = python(f"{code}\n{PEAK}", *arguments)
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return 1024 * int(run.stdout.split()[-1])
