"""`make bench`: every figure beside its target, printed and written to benchmarks/README.md.

    python -m benchmarks [--quick | --full] [NAME...]

With `--quick`, or with names, nothing is written: small sizes prove that a benchmark works, not how fast anything is.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from benchmarks import (
    audit,
    aws_calls,
    handler,
    ingest_calls,
    join,
    many,
    merge,
    parse,
    plan,
    simulate,
    simulate_storage,
    start,
    whole,
)
from benchmarks.measure import Figure

TABLE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
PACKAGES = ("msgspec", "numpy", "pyarrow", "pysimdjson", "pybase64", "chromadb", "wordllama", "boto3")


def parsed(lines: int = 20_000, rounds: int = 5, few: int = 2_000, many_lines: int = 50_000) -> list[Figure]:
    """The figures of `parse`, which are all lower bounds."""
    return [Figure(*found, at_least=True) for found in parse.run(lines, rounds, few, many_lines)]


FULL: dict[str, Callable[[], list[Figure]]] = {
    "start": start.run,
    "parse": parsed,
    "plan": plan.run,
    "join": join.run,
    "merge": merge.run,
    "whole": whole.run,
    "many": many.run,
    "aws_calls": aws_calls.run,
    "ingest_calls": ingest_calls.run,
    "handler": handler.run,
    "audit": audit.run,
    "simulate": simulate.run,
    "simulate_storage": simulate_storage.run,
}
LONG: dict[str, Callable[[], list[Figure]]] = {"audit": lambda: audit.run(vectors=audit.FULL_VECTORS)}
"""What `--full` runs in place of the usual: sizes that take minutes."""
QUICK: dict[str, Callable[[], list[Figure]]] = {
    "start": lambda: start.run(rounds=1),
    "parse": lambda: parsed(500, 1, 500, 1_000),
    "plan": lambda: plan.run(2_000, rounds=1),
    "join": lambda: join.run(2_000, 400, rounds=1),
    "merge": lambda: merge.run(200, rounds=1),
    "whole": lambda: whole.run(200),
    "many": lambda: many.run(40, 80),
    "aws_calls": lambda: aws_calls.run(rounds=1, turn_s=0),
    "ingest_calls": lambda: ingest_calls.run(2),
    "handler": lambda: handler.run(60, 30, ["base64"]),
    "audit": lambda: audit.run(1, 1, 500, 50, rounds=1),
    "simulate": lambda: simulate.run(2_000, 2, rounds=1),
    "simulate_storage": lambda: simulate_storage.run(rounds=1),
}


def line(figure: Figure) -> str:
    """One figure as a terminal shows it."""
    verdict = "ok" if figure.met else "MISS"
    return f"{figure.name:74} {figure.value:8.2f} {figure.unit:3}  {figure.bound:10} {verdict:4} {figure.note}".rstrip()


def table(found: Iterable[tuple[str, Figure]]) -> str:
    """All figures as a Markdown table."""
    rows = [
        f"| {figure.name} | {figure.value:.2f} {figure.unit} | {figure.bound} | {'ok' if figure.met else '**miss**'} "
        f"| `python -m benchmarks {name}` | {figure.note} |"
        for name, figure in found
    ]
    head = ["| figure | measured | target | | command | |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def machine() -> str:
    """Where it was measured, in one sentence."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    load = f"{os.getloadavg()[0]:.1f}"
    return (
        f"Measured with Python {platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs at a load of {load} when it ended; {versions}.\n"
    )


def main() -> int:
    """Run what is named. The exit code is 0 also where a target is missed: a benchmark measures, a test decides."""
    options = argparse.ArgumentParser(prog="python -m benchmarks")
    options.add_argument("--quick", action="store_true", help="tiny sizes: does everything still run?")
    options.add_argument("--full", action="store_true", help=f"sizes that take minutes: {', '.join(LONG)}")
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FULL))
    given = options.parse_args()
    unknown = set(given.names) - set(FULL)
    if unknown:
        options.error(f"unknown: {', '.join(sorted(unknown))}")
    found: list[tuple[str, Figure]] = []
    for name, run in (QUICK if given.quick else FULL | LONG if given.full else FULL).items():
        if given.names and name not in given.names:
            continue
        for figure in run():
            print(line(figure), flush=True)
            found.append((name, figure))
    if not given.quick and not given.names:
        before, _, rest = TABLE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        TABLE.write_text(f"{before}{BEGIN}\n{machine()}\n{table(found)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
