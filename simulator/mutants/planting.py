"""Calls the worker of one planted bug: a process of its own, since the code is changed before it is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from embedpipe.errors import MisuseError

__all__ = ["each_hunted", "hunted", "replayed"]


def each_hunted(names: Sequence[str], jobs: int, **options: Any) -> Iterator[list[dict[str, Any]]]:
    """`hunted`, for `jobs` at a time, in order. Those that have not begun are left out when the caller goes."""
    pool = ThreadPoolExecutor(jobs)  # each only waits for a process
    try:
        yield from pool.map(lambda name: hunted(name, **options), names)
    finally:
        pool.shutdown(cancel_futures=True)


def hunted(name: str, *, scenario: str, faults: str, seed: int, runs: int, bases: int = 1) -> list[dict[str, Any]]:
    """What the worker says of each base of seeds. `MisuseError` where it ends badly: the patch does not fit the code."""
    options = {"scenario": scenario, "faults": faults, "seed": seed, "runs": runs, "bases": bases}
    return _worker(name, *(f"--{option}={value}" for option, value in options.items()))


def replayed(name: str, plan: Path) -> dict[str, Any]:
    """The verdict of a plan with this bug planted, what is broken, and how much there is to look at. `MisuseError` as above."""
    (said,) = _worker(name, f"--plan={plan}")
    return said


def _worker(name: str, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "simulator.mutants.worker", name, *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        raise MisuseError(f"The planted bug {name} could not be run: {last[0][:300]}")
    return [json.loads(line) for line in ended.stdout.splitlines()]
