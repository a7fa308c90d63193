"""Mutations: what they change is still a program, and the judges notice what matters."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from simulator.mutations.mutating import mutated, run_on
from simulator.mutations.operators import mutations
from simulator.mutations.places import all_mutations
from simulator.mutations.reaching import Noting, Statements
from simulator.mutations.survivors import SURVIVORS, survivor_of

MUTATIONS = all_mutations()
NAMED = {one.name: one for one in MUTATIONS}


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


FATES = {
    "embedpipe.stages.poll:may_replace:compare-5": ("killed", True),
    "embedpipe.stages.submit:_json_bytes:constant-1": ("survived", True),
    "embedpipe.steps.merge:check_published:not-1": ("not reached", False),
    "embedpipe.stages.fold:settled:constant-3": ("killed", True),
    "embedpipe.steps.list_pending:_check_ours:not-1": ("killed", True),
}
SEEDS = range(1, 21)
BROKEN = {
    "embedpipe.steps.submit:submit:ternary-1": (1, "G1: submission submit-0 is not in the ledger"),
    "embedpipe.stages.submit:_reach:ternary-1": (2, "G9: batch .* has 2 requests, and 1 are let into one"),
    "embedpipe.stages.streams:sorted_by_id:ternary-1": (4, "G2: the records of batch .* are not in order"),
    "embedpipe.stages.conclude:conclude:compare-4": (7, "G9: record .* had 1 tries in batch .*, and goes on with 1"),
    "embedpipe.stages.conclude:batch_faults:compare-1": (104, "G9: record .* was refused, and is submitted again"),
    "embedpipe.stages.conclude:batch_faults:compare-5": (
        138,
        "G9: batch .* failed for no named line, and goes again as one",
    ),
}
"""What only the judge with the provider's books sees, each by another of his rules, and a seed that shows it."""


def test_mutations_come_to_their_fates_and_no_seed_that_is_left_out_would_change_them() -> None:
    """A register that may not move is noticed at once; a byte more in an estimate is not what they look at."""
    found = {fate.name: fate for fate in mutated([NAMED[name] for name in FATES], runs=2)}
    assert {name: (found[name].word, found[name].reached) for name in FATES} == FATES
    left_out = [
        "stages.fold:settled:constant-3",
        "steps.list_pending:_check_ours:not-1",
        "steps.merge:check_published:not-1",
    ]
    for fate in run_on([(NAMED[f"embedpipe.{name}"], SEEDS) for name in left_out]):
        assert (fate.word, fate.by, fate.broken) == (
            found[fate.name].word,
            found[fate.name].by,
            found[fate.name].broken,
        )
        assert fate.runs > found[fate.name].runs


def test_each_rule_of_the_judge_with_the_books_is_broken_by_a_mutation() -> None:
    fates = {fate.name: fate for fate in run_on([(NAMED[name], [seed]) for name, (seed, _) in BROKEN.items()])}
    assert [name for name, (_, broken) in BROKEN.items() if not re.match(broken, fates[name].broken)] == []


SOURCE = """\
LIMIT = 1


class Kept:
    def first(self, values):
        if LIMIT in values:
            found = [
                value
                for value in values
            ]
            return found
        try:
            return values[7]
        except IndexError:
            return None

    @cached_property
    def second(self):
        return 2
"""


def test_statements_note_that_they_are_met() -> None:
    met: list[tuple[str, int]] = []
    names = {"_statement_met": lambda *place: met.append(place), "cached_property": property}
    exec(Noting("m").applied(SOURCE), names)  # noqa: S102  it is the text above
    kept: Any = names["Kept"]()
    assert (kept.first([1, 2]), met) == ([1, 2], [("m", 6), ("m", 7), ("m", 11)])
    met.clear()
    assert (kept.first([]), met) == (None, [("m", 6), ("m", 12), ("m", 13), ("m", 15)])
    statements = Statements(SOURCE)
    assert [statements.at(line) for line in (6, 8, 9, 11, 13, 14, 15)] == [6, 7, 7, 11, 13, 12, 15]
    assert [statements.at(line) for line in (1, 19)] == [None, None]


def test_every_survivor_has_one_line_and_every_line_a_mutation() -> None:
    names = [one.name for one in MUTATIONS]
    for line in SURVIVORS:
        assert line.reason
        assert any(survivor_of(name) is line for name in names if line.fits(name)), line
