"""Which seeds come by which statement of the stages and steps: a mutation shows nothing in a run that never gets there.

python -m simulator.mutations.reaching SEEDS MOST

Runs are deterministic, so a run in which a changed statement is not executed is the unchanged run. One pass over unchanged
code, each statement of which notes that it was met, says where a mutation is worth running: for each statement the first MOST
of the seeds from 1 to SEEDS.
"""

from __future__ import annotations

import ast
import builtins
import json
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from simulator.mutants.loader import install
from simulator.mutations.operators import Mutation
from simulator.mutations.places import all_mutations

__all__ = ["Reach", "Statements"]

NOTE: Final = "_statement_met"
"""A builtin that is defined here: notes module and line."""
Block = list[ast.stmt]


@attrs.frozen
class Noting:
    """A module each of whose statements notes that it is met."""

    module: str

    def applied(self, source: str) -> str:
        """The changed source."""
        tree = ast.parse(source)
        for function in _functions(tree):
            for block in list(_blocks(function)):
                block[:] = [each for statement in block for each in (self._note(statement), statement)]
        return ast.unparse(ast.fix_missing_locations(tree))

    def _note(self, statement: ast.stmt) -> ast.stmt:
        return ast.parse(f"{NOTE}({self.module!r}, {statement.lineno})").body[0]


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """The outermost ones: what is in them is theirs."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef):
            yield child
        else:
            yield from _functions(child)


def _blocks(node: ast.AST) -> Iterator[Block]:
    """All lists of statements in a node."""
    for child in ast.iter_child_nodes(node):
        yield from _blocks(child)
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block:
            yield block


class Statements:
    """The statements of a module by where they begin."""

    def __init__(self, source: str) -> None:
        found: list[tuple[int, int, bool]] = []  # line, last line, whether it is met in each run that it matters to
        for function in _functions(ast.parse(source)):
            kept = any("cache" in ast.unparse(decorator) for decorator in function.decorator_list)
            found += [(each.lineno, each.end_lineno or 0, kept) for block in _blocks(function) for each in block]
        self._found = sorted(found)
        self._lines = [line for line, _, _ in self._found]

    def at(self, line: int) -> int | None:
        """The line on which the innermost statement begins that has this line; None where each run is to be run.

        That is what a process does once: what is not in a function, and what is kept from one run to the next.
        """
        for start, end, kept in reversed(self._found[: bisect_right(self._lines, line)]):
            if line <= end:
                return None if kept else start
        return None


@attrs.frozen
class Reach:
    """Where runs come by."""

    most: int
    """How many seeds are enough."""
    seeds: Mapping[str, Mapping[str, Sequence[int]]]
    """Module -> line of a statement -> the first seeds that meet it."""

    def of(self, mutation: Mutation, statements: Statements) -> Sequence[int]:
        """The seeds to run a mutation on; none where no seed comes by."""
        line = statements.at(mutation.line)
        if line is None or "yield" in mutation.before:  # without it a function is no generator, whoever comes by
            return range(1, self.most + 1)
        return self.seeds.get(mutation.module, {}).get(str(line), ())


def main() -> None:
    """Print the map as JSON."""

    seeds, most = int(sys.argv[1]), int(sys.argv[2])
    found: dict[str, dict[int, list[int]]] = {}
    now = [0]

    def note(module: str, line: int) -> None:
        met = found.setdefault(module, {}).setdefault(line, [])
        if (not met or met[-1] != now[0]) and len(met) < most:
            met.append(now[0])

    setattr(builtins, NOTE, note)
    install([Noting(module) for module in dict.fromkeys(each.module for each in all_mutations())])
    from simulator.plan import scenario_named
    from simulator.runs import run
    from simulator.scenarios import turn

    for now[0] in range(1, seeds + 1):
        name, profile = turn("mix", "mix", now[0])
        run(scenario_named(name), now[0], profile)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
