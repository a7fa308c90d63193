"""The commands that only look: status and search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.text import Text

from embedpipe.cli.app import printable
from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import clean, print_facts, show, table
from embedpipe.errors import InvalidInput
from embedpipe.model import Hit, kind_named

if TYPE_CHECKING:
    from embedpipe.pipeline import Pipeline
    from embedpipe.reports import StatusReport

TEXT_CHARS_MAX: Final = 300  # of each answer; --json has all of it
OPEN_SHOWN_MAX: Final = 20  # batches in the table; --json has all of them


def opened(settings: Settings) -> Pipeline:
    """A pipeline that reports nothing."""
    from embedpipe.pipeline import Pipeline

    config = settings.load()
    if config.objects.backend == "files" and not config.root.is_dir():
        # Looking must not make a directory, least of all one with a typing error in its name.
        raise InvalidInput(
            f"{config.root}: nothing is there yet.", hint="Check --root, or begin with: embedpipe run FILE"
        )
    return Pipeline.open(config.root, kind=kind_named(config.kind), config=config)


@click.command()
@common
def status(settings: Settings) -> None:
    """Show how many batches are in which state, those still open, and what is published.

    \b
    Example:
      embedpipe status --kind notes --json
    """
    with opened(settings) as pipe:
        report = pipe.status()
    show(report, as_json=settings.json, human=lambda console: _print_status(console, report))


def _print_status(console: Console, report: StatusReport) -> None:
    print_facts(console, [("version", report.version or "none"), ("records", report.collection_count)])
    console.print()
    console.print(table(("status", "batches"), list(report.counts.items()), numbers=("batches",)))
    if report.unaccounted:
        console.print()
        console.print(table(("open batch whose row can't be read",), [(name,) for name in report.unaccounted]))
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
    """Find the records nearest in meaning to TEXT.

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
    for hit in hits:
        text = clean(hit.document or "", chars_max=TEXT_CHARS_MAX)
        console.print(Text.assemble((f"{hit.distance:.3f}  ", "bold"), text), soft_wrap=True)
        console.print(Text.assemble("       ", (_place(hit), "dim")), soft_wrap=True)


def _place(hit: Hit) -> str:
    """Id and metadata in one line.

    >>> _place(Hit(id="try:49", distance=0.3, metadata={"line": 49, "topic": "try"}))
    'try:49  line=49  topic=try'
    """
    pairs = (f"{name}={value}" for name, value in sorted(hit.metadata.items()))
    return printable("  ".join([hit.id, *pairs]))
