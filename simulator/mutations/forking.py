"""Runs mutations, each in a fork of this process, and says on stdout what became of each.

Each is a JSON line on stdin, with the seeds to run it on.

python -m simulator.mutations.forking

What is foreign is imported once, here; what is ours is imported by the fork, after it was changed. A fork is killed that takes
too long.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import resource
import sys
from collections.abc import Sequence
from typing import Any, Final

from simulator.mutants.loader import install
from simulator.mutations.operators import Mutation

FOREIGN: Final = (
    *("attrs", "cattrs", "click", "greenlet", "msgspec", "numpy", "pyarrow.compute", "pyarrow.ipc", "pybase64"),
    *("jsonschema", "simdjson"),
)
CPU_S: Final = 15
"""[ours] A run takes a tenth of a second. What has taken so long never ends."""
MEMORY_BYTES: Final = 4 << 30


def main() -> None:
    """Until stdin ends."""
    for name in FOREIGN:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        said = _forked(Mutation(**asked["mutation"]), asked["seeds"])
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def _forked(mutation: Mutation, seeds: Sequence[int]) -> dict[str, Any]:
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        _child(mutation, seeds, said)
    os.close(said)
    with os.fdopen(heard, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    found = json.loads(answer) if answer else {"reached": True, "runs": 0, "by": "hang", "broken": ""}
    return {"name": mutation.name, "line": mutation.line, "before": mutation.before, "after": mutation.after, **found}


def _child(mutation: Mutation, seeds: Sequence[int], said: int) -> None:
    """Never returns: nothing that the parent would do on its way out is done twice."""
    try:
        os.write(said, json.dumps(_fate(mutation, seeds)).encode())
    finally:
        os._exit(0)


def _fate(mutation: Mutation, seeds: Sequence[int]) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    reached: list[bool] = []

    def note() -> None:
        reached[:] = [True]

    builtins._mutation_reached = note  # type: ignore[attr-defined]
    install([mutation])
    done, by, broken = 0, "", ""
    try:
        from simulator.plan import scenario_named
        from simulator.runs import Verdict, run
        from simulator.scenarios import turn

        for seed in seeds:
            used = resource.getrusage(resource.RUSAGE_SELF)
            spent_s = round(used.ru_utime + used.ru_stime)
            resource.setrlimit(resource.RLIMIT_CPU, (spent_s + CPU_S, resource.RLIM_INFINITY))
            name, profile = turn("mix", "mix", seed)
            outcome = run(scenario_named(name), seed, profile)
            done += 1
            if outcome.verdict is not Verdict.HELD:
                by, broken = outcome.verdict.value, outcome.broken[0] if outcome.broken else ""
                break
    except Exception as error:  # noqa: BLE001  whatever a changed line brings about is its end
        by, broken, reached = "crash", repr(error), [True]
    return {"reached": bool(reached), "runs": done, "by": by, "broken": broken[:200]}


if __name__ == "__main__":
    main()
