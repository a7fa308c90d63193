"""Calls the worker of one planted bug: a process of its own, since the code is changed before it is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from embedpipe.errors import MisuseError

__all__ = ["hunted"]


def hunted(name: str, *, scenario: str, faults: str, seed: int, runs: int, bases: int = 1) -> list[dict[str, Any]]:
    """What the worker says of each base of seeds. `MisuseError` where it ends badly: the patch does not fit the code."""
    options = {"scenario": scenario, "faults": faults, "seed": seed, "runs": runs, "bases": bases}
    given = [f"--{option}={value}" for option, value in options.items()]
    command = [sys.executable, "-m", "simulator.mutants.worker", name, *given]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        raise MisuseError(f"The planted bug {name} could not be run: {last[0][:300]}")
    return [json.loads(line) for line in ended.stdout.splitlines()]
