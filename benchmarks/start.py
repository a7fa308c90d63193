"""Starting: `embedpipe --help` beside an interpreter that only imports click.

python -m benchmarks.start
"""

from __future__ import annotations

import statistics
import sys

from benchmarks.measure import Figure, child_cpu_s, python

HELP = [sys.executable, "-m", "embedpipe", "--help"]


def run(rounds: int = 15) -> list[Figure]:
    """CPU of the two processes, taken in turns."""
    bare = python("import click")
    turns = [(child_cpu_s(HELP), child_cpu_s(bare)) for _ in range(rounds)]
    help_s, bare_s = (statistics.median(values) for values in zip(*turns, strict=True))
    note = f"{1000 * help_s:.0f} ms over {1000 * bare_s:.0f} ms"
    return [Figure("embedpipe --help, over a bare import of click", help_s / bare_s, 2, note=note)]


if __name__ == "__main__":
    for figure in run():
        print(figure)
