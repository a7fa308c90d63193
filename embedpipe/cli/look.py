"""The commands that only look: status and search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
from rich.console import Console

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import clean, facts, show, table
from embedpipe.model import Hit, kind_named, metadata_json

if TYPE_CHECKING:
    from embedpipe.pipeline import Pipeline, StatusReport

TEXT_CHARS_MAX: Final = 300  # of each answer; --json has all of it
OPEN_SHOWN_MAX: Final = 20  # batches in the table; --json has all of them


def opened(settings: Settings) -> Pipeline:
    """A pipeline that reports nothing."""
    from embedpipe.pipeline import Pipeline

    config = settings.load()
    return Pipeline.open(config.root, kind=kind_named(config.kind), config=config)


@click.command()
@common
def status(settings: Settings) -> None:
    r"""Show how many batches are in which state, those still open, and what is published.

    \b
    Example:
      embedpipe status --kind notes --json
    """
    with opened(settings) as pipe:
        report = pipe.status()
    show(report, as_json=settings.json, human=lambda console: _print_status(console, report))


def _print_status(console: Console, report: StatusReport) -> None:
    console.print(facts([("version", report.version or "none"), ("records", report.collection_count)]))
    console.print()
    console.print(table(("status", "batches"), sorted(report.counts.items()), numbers=("batches",)))
    if not report.open:
        return
    columns = ("open batch", "status", "provider says", "age")
    rows = [
        (batch.batch_id, batch.status, batch.provider_status or "", _age(batch.age_s))
        for batch in report.open[:OPEN_SHOWN_MAX]
    ]
    console.print()
    console.print(table(columns, rows, numbers=("age",)))
    if len(report.open) > OPEN_SHOWN_MAX:
        console.print(f"and {len(report.open) - OPEN_SHOWN_MAX:,} more")


def _age(age_s: float | None) -> str:
    """Seconds as a person says them.

    >>> _age(59), _age(3700), _age(200_000), _age(None)
    ('59 s', '1.0 h', '2.3 d', '')
    """
    if age_s is None:
        return ""
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if age_s >= size_s:
            return f"{age_s / size_s:.1f} {unit}"
    return f"{age_s:.0f} s"


@click.command()
@click.argument("text")
@click.option("-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many answers.")
@common
def search(settings: Settings, text: str, k: int) -> None:
    r"""Find the records nearest in meaning to TEXT.

    \b
    Example:
      embedpipe search "how do I handle an exception?" -k 3 --kind line --root .embedpipe-demo
    """
    with opened(settings) as pipe:
        hits = pipe.search(text, k)
    show({"query": text, "hits": hits}, as_json=settings.json, human=lambda console: print_hits(console, hits))


def print_hits(console: Console, hits: list[Hit]) -> None:
    """The answers of a search, nearest first."""
    if not hits:
        console.print("Nothing is published yet.")
        return
    rows = [
        (
            f"{hit.distance:.3f}",
            hit.id,
            clean(hit.document or "", chars_max=TEXT_CHARS_MAX),
            metadata_json(hit.metadata),
        )
        for hit in hits
    ]
    if not any(row[3] for row in rows):
        console.print(table(("distance", "id", "text"), [row[:3] for row in rows], numbers=("distance",)))
    else:
        console.print(table(("distance", "id", "text", "metadata"), rows, numbers=("distance",)))
