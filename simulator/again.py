"""A run once more, in a process with another hash seed: what depends on the order of a set is the same twice in one process.

python -m simulator.again

reads plans, one JSON line each, and answers each with the lines of its trace. It ends with its input.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from typing import Final

import msgspec

from embedpipe.errors import Unavailable
from simulator.plan import Plan, parse_plan, replay

__all__ = ["lines_again"]

HASH_SEEDS: Final = ("0", "1")

_children: Final[dict[int, subprocess.Popen[bytes]]] = {}
"""By process: a fork has to have one of its own."""


def lines_again(plan: Plan) -> list[str]:
    """The trace of a plan, as that process has it."""
    child = _child()
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(msgspec.json.encode(plan.document()) + b"\n")
    child.stdin.flush()
    answer = child.stdout.readline()
    if not answer:
        raise Unavailable("The process that repeats runs has ended.", hint="Run it again; what it printed says why.")
    return msgspec.json.decode(answer, type=list[str])


def _child() -> subprocess.Popen[bytes]:
    known = _children.get(os.getpid())
    if known is not None and known.poll() is None:
        return known
    other = HASH_SEEDS[os.environ.get("PYTHONHASHSEED") == HASH_SEEDS[0]]
    made = subprocess.Popen(
        [sys.executable, "-m", "simulator.again"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # Ctrl-C is for the one that asks
    )
    atexit.register(_end, made)
    _children[os.getpid()] = made
    return made


def _end(child: subprocess.Popen[bytes]) -> None:
    with child:
        child.kill()


def main() -> None:
    """Answer until there is no more."""
    for line in sys.stdin.buffer:
        outcome, _ = replay(parse_plan(line, "a plan"))
        sys.stdout.buffer.write(msgspec.json.encode([happened.line() for happened in outcome.trace]) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
