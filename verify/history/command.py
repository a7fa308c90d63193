"""`embedpipe verify history`: reads options, calls the library, prints. It decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text

if TYPE_CHECKING:
    from verify.history.trail import Answer, Trail

SHOWN_CHARS = 120
"""Of a value."""


@click.command()
@click.argument("execution", metavar="FILE|ARN")
@click.option("--field", "fields", multiple=True, metavar="NAME", help="A field that had to arrive; repeatable.")
@click.option("--state", metavar="NAME", help="Where it had to arrive. [default: Mark…BatchesComplete]")
@click.option("--region", metavar="NAME", help="Of AWS. [default: that of the ARN]")
@click.option("--endpoint-url", metavar="URL", help="Of a server in place of AWS. [default: as the SDK finds it]")
@common
def history(
    settings: Settings,
    execution: str,
    fields: tuple[str, ...],
    state: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> int:
    """Say in which state of an execution that ran a field got lost. Without options: the key of the results and its bucket.

    FILE is what `aws stepfunctions get-execution-history` prints. Ends with 1 where one got lost, 3 where nobody can tell.

    \b
    Example:
      embedpipe verify history history.json
      embedpipe verify history arn:aws:states:eu-central-1:123456789012:execution:ingest:e1 --field report_key
    """
    from verify.audit.history import FIELDS
    from verify.history.reading import of_execution, of_file
    from verify.history.trail import follow

    if execution.startswith("arn:"):
        events = of_execution(execution, region=region, endpoint_url=endpoint_url)
    else:
        events = iter(of_file(Path(execution)))
    trail = follow(events, fields=fields or FIELDS, state=state, name=execution)
    if settings.json:
        click.echo(json_text(trail))
    else:
        click.echo(_text(trail), nl=False)
    return trail.exit_code


def _text(trail: Trail) -> str:
    ended = f", ended {trail.status}" if trail.status else ", no end in it"
    lines = [f"{_shown(trail.name)}: {trail.events} events{ended}"]
    for answer in trail.answers:
        lines += _of_field(answer, trail.target)
    return "".join(f"{line}\n" for line in lines)


def _of_field(answer: Answer, target: str) -> list[str]:
    where = target or "the state where it had to arrive"
    lines = [f"{answer.field} in {where}: {answer.came}"]
    if answer.lost_in:
        lines.append(f"  lost in {_shown(answer.lost_in)}: {_shown(answer.before)} -> {_shown(answer.after)}")
    shown: object = None
    for stop in answer.stops:
        value = _shown(stop.value) if stop.known else "cut off by the engine"
        if value != shown or stop is answer.stops[-1]:
            lines.append(f"  event {stop.event_id:>4}  {stop.what:8} {_shown(stop.state)}: {value}")
        shown = value
    return lines


def _shown(value: object) -> str:
    """Printable, and not too long: it comes from somebody's execution."""
    text = "null" if value is None else value if isinstance(value, str) else ascii(value)
    return ascii(text)[1:-1][:SHOWN_CHARS]
