"""`embedpipe simulate mutants` and `mutate`: what a search finds of bugs that were planted. They decide nothing."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from embedpipe.errors import CorruptData, InvalidInput, full_disk
from simulator.cli.parts import jobs_option, mixed_faults_option, mixed_scenario_option
from simulator.mutations.survivors.verdicts import Word

if TYPE_CHECKING:
    from simulator.mutations.mutating import Fate

__all__ = ["mutants", "mutate"]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--runs", default=200, show_default=True, type=click.IntRange(1), help="At most, for each.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the first run.")
@click.option(
    "--bases",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Search so often, from seeds far apart. What is found first is made small.",
)
@jobs_option
@mixed_scenario_option
@mixed_faults_option
@common
def mutants(settings: Settings, names: tuple[str, ...], jobs: int, **asked: Any) -> int:
    """Plant bugs, one at a time, and say whether they are found, how soon, and how small it gets. Changes no file.

    Ends with 1 where one was found from no base and is not known to be out of reach.

    \b
    Example:
      embedpipe simulate mutants lesser_claim_wins
      embedpipe simulate mutants --runs 500 --faults storm
    """
    from simulator.mutants.catalogue import MUTANTS
    from simulator.mutants.planting import each_hunted

    if unknown := set(names) - MUTANTS.keys():
        raise InvalidInput(
            f"No planted bug is called {min(unknown)[:40]!a}.", hint=f"Use some of {', '.join(MUTANTS)}."
        )
    planted = tuple(names or MUTANTS)
    found, missed = [], 0
    for name, hunts in zip(planted, each_hunted(planted, jobs, **asked), strict=True):
        said = [{**hunt, "missed_for": MUTANTS[name].missed} for hunt in hunts]
        found += said
        missed += all(hunt["seeds"] is None and not hunt["missed_for"] for hunt in said)
        if not settings.json:
            click.echo("".join(f"{name:28} {_hunt(hunt)}\n" for hunt in said), nl=False)
    if settings.json:
        click.echo(json_text(found))
    return int(missed > 0)


def _hunt(hunt: dict[str, Any]) -> str:
    if hunt["seeds"] is None:
        why = f" ({hunt['missed_for']})" if hunt["missed_for"] else ""
        return f"not found{why}, {hunt['seconds']} s"
    found = f"{hunt['verdict']} at run {hunt['seeds']}, {hunt['seconds']} s"
    if hunt["shrunk"] is None:
        return found
    left = f"{len(hunt['faults'])} faults and {hunt['shrunk']['batches']} batches"
    return f"{found}; {left} after {hunt['shrunk']['seconds']} s"


@click.command()
@click.argument("patterns", nargs=-1, metavar="[PATTERN...]")
@click.option("--runs", default=30, show_default=True, type=click.IntRange(1), help="At most, for each.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="So many of them, drawn by --seed. [default: all]")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the sample.")
@click.option(
    "--results",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep results there; what it has is not run again.",
)
@jobs_option
@common
def mutate(
    settings: Settings,
    patterns: tuple[str, ...],
    runs: int,
    sample: int | None,
    seed: int,
    results: Path | None,
    jobs: int,
) -> int:
    """Change one place after another of the stages and steps, and say which changes no run notices. Changes no file.

    Ends with 1 where one survives that the table of survivors does not have.

    \b
    Example:
      embedpipe simulate mutate 'embedpipe.stages.poll:*'
      embedpipe simulate mutate --sample 200 --jobs 2 --results mutations.jsonl
    """
    import attrs

    from simulator.mutations.mutating import mutated
    from simulator.mutations.places import all_mutations

    chosen = all_mutations(patterns)
    if not chosen:
        raise InvalidInput(
            f"No mutation is called {patterns[0][:60]!a}.", hint="Names are as embedpipe.stages.poll:look:*."
        )
    if sample is not None and sample < len(chosen):
        chosen = random.Random(seed).sample(chosen, sample)
    known = _known(results)
    fates = [known[one.name] for one in chosen if one.name in known]
    for fate in mutated([one for one in chosen if one.name not in known], runs=runs, jobs=jobs):
        fates.append(fate)
        if results is not None:
            with full_disk(str(results)), results.open("a", encoding="utf-8") as kept:
                kept.write(json.dumps(attrs.asdict(fate)) + "\n")
        if not settings.quiet:
            click.echo(f"{len(fates):,} of {len(chosen):,}: {fate.word} {fate.name}", err=True)
    click.echo(json_text([attrs.asdict(fate) for fate in fates]) if settings.json else _table(fates), nl=settings.json)
    return int(any(fate.unlisted for fate in fates))


def _known(results: Path | None) -> dict[str, Fate]:
    from simulator.mutations.mutating import Fate

    if results is None or not results.exists():
        return {}
    try:
        found = [Fate(**json.loads(line)) for line in results.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        raise CorruptData(f"{results} has a line that is no result: {error}.", hint="Name another file.") from None
    return {fate.name: fate for fate in found}


def _by_module(fates: Sequence[Fate]) -> list[str]:
    """A table as documents have it: what became of the mutations of each module."""
    columns = ("killed", *(word.value for word in Word))
    found: dict[str, Counter[str]] = {}
    for fate in sorted(fates, key=lambda fate: fate.name):
        for module in (fate.name.partition(":")[0].removeprefix("embedpipe."), "all"):
            found.setdefault(module, Counter())[fate.place] += 1
    rows = [(f"`{module}`" if module != "all" else module, counts) for module, counts in found.items()]
    rows.sort(key=lambda row: row[0] == "all")
    return [
        f"| module | mutations | {' | '.join(columns)} |",
        "|".join(["", *[" --- "] * (len(columns) + 2), ""]),
        *(
            f"| {name} | {counts.total()} | {' | '.join(str(counts[each]) for each in columns)} |"
            for name, counts in rows
        ),
    ]


def _table(fates: Sequence[Fate]) -> str:
    """Counts, then every survivor with its verdict."""
    counts = Counter(fate.word for fate in fates)
    lines = [f"{len(fates):,} mutations: " + ", ".join(f"{count:,} {word}" for word, count in counts.most_common())]
    lines += [f"  by {word}: {count:,}" for word, count in Counter(fate.by for fate in fates if fate.by).most_common()]
    lines += ["", *_by_module(fates), ""]
    for fate in fates:
        if not fate.by:
            before, after = (" ".join(text.split())[:60] for text in (fate.before, fate.after))
            lines.append(f"{fate.name} (line {fate.line}): {before} -> {after}\n    {fate.word}; {fate.verdict}")
    return "".join(f"{line}\n" for line in lines)
