"""Calls the worker of one planted bug: a process of its own, since the code is changed before it is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from embedpipe.errors import MisuseError

__all__ = ["hunted", "replayed"]


def hunted(name: str, *, scenario: str, faults: str, seed: int, runs: int, bases: int = 1) -> list[dict[str, Any]]:
    """What the worker says of each base of seeds. `MisuseError` where it ends badly: the patch does not fit the code."""
    options = {"scenario": scenario, "faults": faults, "seed": seed, "runs": runs, "bases": bases}
    return _worker(name, *(f"--{option}={value}" for option, value in options.items()))


def replayed(name: str, plan: Path) -> dict[str, Any]:
    """The verdict of a plan with this bug planted, and what is broken. `MisuseError` as above."""
    (said,) = _worker(name, f"--plan={plan}")
    return said


def _worker(name: str, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "simulator.mutants.worker", name, *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        raise MisuseError(f"The planted bug {name} could not be run: {last[0][:300]}")
    return [json.loads(line) for line in ended.stdout.splitlines()]
