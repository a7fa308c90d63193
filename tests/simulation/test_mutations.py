"""Mutations: what they change is still a program, and the judges notice what matters."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from simulator.mutants.mutating import all_mutations, mutated
from simulator.mutants.operators import mutations
from simulator.mutants.survivors import SURVIVORS, survivor_of

MUTATIONS = all_mutations()


def test_every_mutation_is_another_program_under_a_name_of_its_own() -> None:
    assert len({one.name for one in MUTATIONS}) == len(MUTATIONS) > 1_500
    sources: dict[str, str] = {}
    for one in MUTATIONS:
        path = Path(*one.module.split(".")).with_suffix(".py")
        source = sources.setdefault(one.module, path.read_text(encoding="utf-8"))
        changed = one.applied(source)
        ast.parse(changed)
        assert changed.count("_mutation_reached()") == 1


def test_names_outlive_edits_elsewhere() -> None:
    before = "def f(a):\n    return a < 1\n\n\ndef g(a):\n    return a == 2\n"
    after = "def f(a):\n    # more\n    return a < 1 and a\n\n\ndef g(a):\n    return a == 2\n"
    named = {one.name: one.after for one in mutations("m", before)}
    assert {name: named[name] for name in named if name.startswith("m:g")} == {
        one.name: one.after for one in mutations("m", after) if one.name.startswith("m:g")
    }


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("embedpipe.stages.poll:may_replace:compare-5", "killed"),
        ("embedpipe.stages.submit:_json_bytes:constant-1", "survived"),
    ],
)
def test_a_mutation_comes_to_its_fate(name: str, word: str) -> None:
    """A register that may not move is noticed at once; a byte more in an estimate is not what they look at."""
    (fate,) = mutated([one for one in MUTATIONS if one.name == name], runs=2)
    assert (fate.word, fate.reached) == (word, True)


def test_every_survivor_has_one_line_and_every_line_a_mutation() -> None:
    names = [one.name for one in MUTATIONS]
    for line in SURVIVORS:
        assert line.reason
        assert any(survivor_of(name) is line for name in names if fnmatchcase(name, line.pattern)), line.pattern
