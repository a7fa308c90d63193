"""`embedpipe demo`: the whole flow on a text that every Python ships, then questions to it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click
from rich.console import Console

from embedpipe.cli.look import print_hits
from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import print_facts, show, table
from embedpipe.cli.work import working
from embedpipe.config import Config
from embedpipe.demo import QUESTIONS, ROOT, line_records, word_records
from embedpipe.model import LINE, WORD, Hit, Kind, Record

if TYPE_CHECKING:
    from embedpipe.reports import RunReport

ANSWERS: Final = 3
BATCH_RECORDS: Final = 2_000


@click.command()
@common
def demo(settings: Settings) -> None:
    """Embed Python's language reference, line by line and some of its words, then ask three questions.

    Needs no account and no network: the model comes in a package. Running it again embeds nothing twice.

    \b
    Example:
      embedpipe demo --root /tmp/reference
    """
    config = _small_batches(settings.load(default_root=ROOT))
    reports = {
        LINE.name: _embed(settings, config, LINE, line_records()),
        WORD.name: _embed(settings, config, WORD, word_records()),
    }
    answers = _ask(settings, config)
    document = {
        "root": config.root,
        "runs": reports,
        "answers": [{"question": question, "hits": hits} for question, hits in answers],
    }
    show(document, as_json=settings.json, human=lambda console: _print(console, config, reports, answers))


def _small_batches(config: Config) -> Config:
    """Several batches in place of one, so that there is something to see."""
    if config.origins["limits.requests_per_batch"].source != "default":
        return config
    return attrs.evolve(config, limits=attrs.evolve(config.limits, requests_per_batch=BATCH_RECORDS))


def _embed(settings: Settings, config: Config, kind: Kind, records: Iterator[Record]) -> RunReport:
    with working(settings, attrs.evolve(config, kind=kind.name)) as (pipe, stopper):
        return pipe.run(stopper.reading(records))


def _ask(settings: Settings, config: Config) -> list[tuple[str, list[Hit]]]:
    with working(attrs.evolve(settings, quiet=True), attrs.evolve(config, kind=LINE.name)) as (pipe, _):
        return [(question, pipe.search(question, ANSWERS)) for question in QUESTIONS]


def _print(
    console: Console, config: Config, reports: dict[str, RunReport], answers: list[tuple[str, list[Hit]]]
) -> None:
    columns = ("kind", "records", "skipped", "batches", "embedded", "rejected", "seconds", "collection")
    rows = [
        (
            name,
            report.records,
            report.skipped,
            report.batches,
            report.embedded,
            report.rejected,
            f"{report.elapsed_s:.1f}",
            report.collection_count,
        )
        for name, report in reports.items()
    ]
    console.print(table(columns, rows, numbers=columns[1:]))
    for question, hits in answers:
        console.print()
        console.print(question, style="bold")
        print_hits(console, hits)
    root = _short(config.root)
    console.print()
    print_facts(
        console,
        [
            ("kept in", root),
            ("ask it yourself", f'{_program()} search "what is a closure?" --kind line --root {root}'),
            ("remove it", f"rm -r {root}"),
        ],
    )


def _program() -> str:
    """How this program can be called again: by name where that finds it, else by its path."""
    path = Path(sys.argv[0])
    return path.name if shutil.which(path.name) == str(path) else str(_short(path))


def _short(path: Path) -> Path:
    """The path as seen from here, where that is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
