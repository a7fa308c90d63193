"""The commands that move records: run, submit, ingest, estimate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import click
from rich.console import Console

from embedpipe.backends.system import SystemClock
from embedpipe.cli.interrupt import Stopper, stoppable
from embedpipe.cli.options import Settings, common, reading
from embedpipe.cli.output import print_facts, show, table
from embedpipe.cli.progress import reporting
from embedpipe.config import Choice, Config
from embedpipe.errors import EXIT_INCOMPLETE, EXIT_OK
from embedpipe.model import Record, kind_named
from embedpipe.reading import Format, read_records

if TYPE_CHECKING:
    from embedpipe.pipeline import Pipeline
    from embedpipe.reports import Estimate, IngestReport, RunReport, SubmitReport


PRICE_MAX: Final = 1_000_000
"""[ours] Of a million tokens, in any currency; more is a typing error."""


@contextmanager
def working(settings: Settings, config: Config) -> Iterator[tuple[Pipeline, Stopper]]:
    """A pipeline that shows its progress and that signals can stop."""
    from embedpipe.pipeline import Pipeline

    with (
        reporting(quiet=settings.quiet, monotonic_s=SystemClock().monotonic_s) as on_event,
        Pipeline.open(config.root, kind=kind_named(config.kind), on_event=on_event, config=config) as pipe,
        stoppable(pipe.stop) as stopper,
    ):
        yield pipe, stopper


def _records(files: tuple[str, ...], format: Format, encoding: str) -> Iterator[Record]:
    if not files:
        raise click.UsageError("Name a FILE, or '-' for standard input.", click.get_current_context())
    return read_records(files, format=format, encoding=encoding)


@click.command()
@click.option("--resume", is_flag=True, help="Take no new records; finish what is open.")
@reading
@common
def run(settings: Settings, files: tuple[str, ...], format: Format, encoding: str, resume: bool) -> None:
    """Embed the records of FILE... ('-' is standard input) and wait until every batch has ended.

    JSON lines have 'id', 'text' and optionally 'metadata'; of plain text, each line is a record. Records that are
    already embedded, or on their way, are skipped. After an interruption, the same command goes on.

    \b
    Examples:
      embedpipe run notes.jsonl --kind notes
      journalctl -b | embedpipe run - --format text --kind log
    """
    records = iter(()) if resume and not files else _records(files, format, encoding)
    config = settings.load()
    with working(settings, config) as (pipe, stopper):
        report = pipe.run(stopper.reading(records))
    show(report, as_json=settings.json, human=lambda console: print_run(console, report, config))


def rejected(report: RunReport) -> str:
    """The number of rejected records and why: `3 (http_400: 2, attempts_exhausted: 1)`."""
    reasons = sorted(report.reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    why = ", ".join(f"{reason}: {count:,}" for reason, count in reasons)
    return f"{report.rejected:,} ({why})" if why else f"{report.rejected:,}"


def print_run(console: Console, report: RunReport, config: Config) -> None:
    """The summary of a run."""
    print_facts(
        console,
        [
            ("records", report.records),
            ("already there", report.skipped or None),
            ("batches", report.batches),
            ("completed by another run", report.completed_elsewhere or None),
            ("embedded", report.embedded),
            ("rejected", rejected(report)),
            ("reasons in", _reasons_key(config) if report.rejected else None),
            ("retry batches", report.retry_batches or None),
            ("ambiguous creates", report.ambiguous_creates or None),
            ("time", f"{report.elapsed_s:.1f} s"),
            ("collection", f"{kind_named(config.kind).collection}: {report.collection_count:,} records"),
            ("version", report.version or "none"),
            ("kept in", config.root),
        ],
    )


def _reasons_key(config: Config) -> str:
    """Where the reasons of rejected records are: a key of the object store, one for each delta."""
    kind = kind_named(config.kind)
    prefix = config.layout.delta_prefix(kind.database, kind.collection, "DELTA")
    return f"{prefix}{config.layout.rejected_file} (of '{config.objects.backend}' objects)"


@click.command()
@reading
@common
def submit(settings: Settings, files: tuple[str, ...], format: Format, encoding: str) -> None:
    """Hand the records of FILE... to the provider and return; 'embedpipe ingest' collects them later.

    \b
    Example:
      embedpipe submit notes.jsonl --kind notes
    """
    records = _records(files, format, encoding)
    with working(settings, settings.load()) as (pipe, stopper):
        report = pipe.submit(stopper.reading(records))
    show(report, as_json=settings.json, human=lambda console: _print_fields(console, report))


def _print_fields(console: Console, report: SubmitReport | IngestReport) -> None:
    fields = attrs.asdict(report, recurse=False)
    print_facts(console, [(name.replace("_", " "), value) for name, value in fields.items() if value != ()])


@click.command()
@common
@click.pass_context
def ingest(context: click.Context, settings: Settings) -> None:
    """Collect what is ready, once: create what waits, poll, merge and mark. Exits with 3 while batches are open.

    \b
    Example, for a scheduler:
      until embedpipe ingest --kind notes; do sleep 600; done
    """
    with working(settings, settings.load()) as (pipe, _):
        report = pipe.ingest()
    show(report, as_json=settings.json, human=lambda console: _print_fields(console, report))
    context.exit(EXIT_INCOMPLETE if report.waiting else EXIT_OK)


def _price(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 <= value <= PRICE_MAX:  # neither is "nan"
        raise click.BadParameter(f"{value} is no price of 0 to {PRICE_MAX:,}.")
    return value


@click.command()
@click.option("--price-per-million-tokens", "price", type=float, callback=_price, metavar="PRICE", help="For the cost.")
@reading
@common
def estimate(settings: Settings, files: tuple[str, ...], format: Format, encoding: str, price: float | None) -> None:
    """Say what a run of FILE... would send: batches, requests, bytes, most tokens, and which limit made each cut.

    Nothing is sent and nothing is written. Tokens are an upper bound, so is the cost.

    \b
    Example:
      embedpipe estimate notes.jsonl --price-per-million-tokens 0.01
    """
    records = _records(files, format, encoding)
    with working(settings, _in_memory(settings.load())) as (pipe, stopper):
        result = pipe.estimate(stopper.reading(records))
    cost_max = None if price is None else result.tokens_max * price / 1e6
    document = {**attrs.asdict(result), "cost_max": cost_max}
    show(document, as_json=settings.json, human=lambda console: _print_estimate(console, result, cost_max))


def _in_memory(config: Config) -> Config:
    """The same settings with stores that leave nothing behind. The provider stays: it may know how to count tokens."""
    memory = Choice(backend="memory")
    return attrs.evolve(config, objects=memory, table=memory, vectors=memory)


def _print_estimate(console: Console, result: Estimate, cost_max: float | None) -> None:
    print_facts(
        console,
        [
            ("records", result.records),
            ("requests", result.requests),
            ("batches", result.batches),
            ("tokens", f"at most {result.tokens_max:,}"),
            ("bytes", result.bytes),
            ("cost", None if cost_max is None else f"at most {cost_max:,.4f}"),
        ],
    )
    if result.cuts:
        columns = ("batch", "requests", "bytes", "tokens at most", "cut by")
        rows = [(cut.part, cut.requests, cut.file_bytes, cut.tokens_max, cut.limit) for cut in result.cuts]
        console.print()
        console.print(table(columns, rows, numbers=columns[:4]))
