"""`embedpipe verify check` and `embedpipe verify explain`: the command line of the auditor.

It lives here, and the table of commands names it by text, because this package may import the command line's and not the
other way round. It decides nothing: it reads options, calls the library, and writes what the formats render.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from embedpipe.errors import full_disk
from verify.sources.options import Named, on_aws

if TYPE_CHECKING:
    from verify.audit.options import Progress
    from verify.audit.report import Report

FORMATS: Final[Mapping[str, str]] = {
    "text": "verify.formats.text:render",
    "jsonl": "verify.formats.jsonl:render",
    "junit": "verify.formats.junit:render",
    "sarif": "verify.formats.sarif:render_report",
}
"""Format -> function from a report to text."""
HEARTBEAT_S: Final = 10.0


def _outputs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [(name, path) for name, _, path in (value.partition("=") for value in values)]
    for name, _path in pairs:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!a} is no format; use {', '.join(FORMATS)}.")
    if sum(not path for _, path in pairs) > 1:
        raise click.BadParameter("only one format can go to stdout; give the others a file: junit=report.xml")
    return tuple(pairs)


@click.command()
@click.option(
    "--depth",
    type=click.Choice(("metadata", "content", "vectors")),
    default="content",
    show_default=True,
    help="How closely to look: keys and rows, objects parsed and hashed, or every vector compared.",
)
@click.option("--execution", "executions", metavar="ID", multiple=True, help="Only this execution; repeatable.")
@click.option("--since", metavar="AGE", help="Only what began since a time or an age, such as 7d.")
@click.option("--select", metavar="CODES", multiple=True, help="Only these codes or families, such as P,B701.")
@click.option("--ignore", metavar="CODES", multiple=True, help="Not these codes or families.")
@click.option(
    "--fail-on",
    type=click.Choice(("critical", "error", "warning", "info")),
    default="warning",
    show_default=True,
    help="End with 1 where a finding is that bad or worse.",
)
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=3_600.0,
    show_default=True,
    metavar="SECONDS",
    help="What is younger may still be on its way.",
)
@click.option(
    "--scope",
    metavar="SOURCES",
    help="Of objects, table, vectors, provider, histories, logs those to read. [default: all]",
)
@click.option("--layout", metavar="FILE", help="Names of keys and attributes of another pipeline, as TOML.")
@click.option("--suppressions", metavar="FILE", help="Findings to live with: object, reason, expires; TOML.")
@click.option(
    "--format",
    "outputs",
    metavar="FORMAT[=FILE]",
    multiple=True,
    callback=_outputs,
    help="text, jsonl, junit or sarif, to stdout or a file; repeatable. [default: text]",
)
@on_aws
@common
def check(
    settings: Settings, outputs: tuple[tuple[str, str], ...], layout: str | None, named: Named, **asked: Any
) -> int:
    """Audit what runs left behind: is everything there, and is what says COMPLETED proven? Changes nothing.

    Ends with 0 where it is clean and complete, 1 with findings, 3 where something could not be checked.

    \b
    Example:
      embedpipe verify check --root .embedpipe
      embedpipe verify check --root .embedpipe --depth vectors --format text --format junit=audit.xml
      embedpipe verify check --bucket BUCKET --table TABLE --state-machine-arn ARN --since 7d
    """
    import verify

    source = named.source(settings, layout)
    lists = {name: _codes(asked.pop(name)) for name in ("select", "ignore", "scope")}
    try:
        with _progress(quiet=settings.quiet) as on_progress:
            report = verify.check(
                source,
                **{**asked, **lists, "suppressions": asked["suppressions"] or ()},
                on_progress=on_progress,
            )
    finally:
        source.close()
    _write(report, outputs, as_json=settings.json)
    return report.exit_code


def _codes(values: tuple[str, ...] | str | None) -> list[str]:
    values = (values,) if isinstance(values, str) else values or ()
    return [code.strip() for value in values for code in value.split(",") if code.strip()]


def _write(report: Report, outputs: tuple[tuple[str, str], ...], *, as_json: bool) -> None:
    if as_json:
        from verify.formats import jsonl

        click.echo(json_text(jsonl.document(report)))
    elif not any(not path for _, path in outputs):
        outputs = (("text", ""), *outputs)
    for name, path in outputs:
        text = _renderer(name)(report)
        if not path:
            click.echo(text, nl=False)
            continue
        with full_disk(path):
            Path(path).write_text(text, encoding="utf-8")


def _renderer(name: str) -> Callable[[Report], str]:
    module, _, attribute = FORMATS[name].partition(":")
    from verify.audit.findings import WrongQuestion

    try:
        render: Callable[[Report], str] = getattr(importlib.import_module(module), attribute)
    except ImportError:
        raise WrongQuestion(f"Format {name} is not built in.", hint="Use text, jsonl or junit.") from None
    return render


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A line that is written over on a terminal, and a line now and then elsewhere."""
    if quiet or sys.stderr is None:
        yield lambda _: None
        return
    from embedpipe.backends.system import SystemClock

    clock = SystemClock()
    terminal = sys.stderr.isatty()
    last = clock.monotonic_s()

    def show(progress: Progress) -> None:
        nonlocal last
        if terminal:
            click.echo(f"\r{progress.stage}: {progress.done:,}", nl=False, err=True)
        elif clock.monotonic_s() - last >= HEARTBEAT_S:
            last = clock.monotonic_s()
            click.echo(f"{progress.stage}: {progress.done:,} checked", err=True)

    yield show
    if terminal:
        click.echo("\r\033[K", nl=False, err=True)


@click.command()
@click.argument("code", required=False)
@click.option("--all", "everything", is_flag=True, help="Every code, as Markdown.")
@common
def explain(settings: Settings, code: str | None, everything: bool) -> None:
    """Say what a finding means, what harm it does, what the evidence is, what mends it, and how to reproduce it.

    \b
    Example:
      embedpipe verify explain B701
    """
    from verify.audit.catalogue import RULES, rule
    from verify.audit.explain import as_markdown, as_object, as_text

    if everything == (code is not None):
        raise click.UsageError("Give one CODE, or --all.")
    rules = list(RULES.values()) if code is None else [rule(code)]
    if settings.json:
        click.echo(json_text([as_object(each) for each in rules]))
    else:
        click.echo(as_markdown(rules) if code is None else as_text(rules[0]), nl=False)
