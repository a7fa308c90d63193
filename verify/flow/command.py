"""`embedpipe verify flow`: reads options, calls the library, writes what is rendered. It decides nothing."""

from __future__ import annotations

from pathlib import Path

import click

from embedpipe.cli.options import Settings, common
from verify.audit.findings import WrongQuestion
from verify.formats.outputs import Outputs, format_option, write

FORMATS = ("text", "json", "sarif", "html")
"""As in `verify.flow.render`, which is imported where something is rendered."""


@click.command()
@click.argument("machines", nargs=-1, required=True, metavar="MACHINE...")
@click.option("--field", "fields", multiple=True, metavar="NAME", help="A field that has to arrive; repeatable.")
@click.option("--state", metavar="NAME", help="Where it has to arrive. [default: Mark…BatchesComplete]")
@click.option("--contract", metavar="FILE", help="What handlers return, as JSON; `embedpipe` for ours.")
@click.option(
    "--items", type=click.IntRange(0), default=0, metavar="N", help="Ask whether a Map's result of N items fits."
)
@format_option(FORMATS)
@common
def flow(
    settings: Settings,
    machines: tuple[str, ...],
    fields: tuple[str, ...],
    state: str | None,
    contract: str | None,
    items: int,
    outputs: Outputs,
) -> int:
    """Say whether a field reaches a state on every path of a state machine, without running it.

    \b
    Example:
      embedpipe verify flow ingest.asl.json --contract embedpipe
      embedpipe verify flow template.yaml --state Publish --field report_key
      embedpipe verify flow ingest.asl.json --format text --format html=flow.html --format sarif=flow.sarif
    """
    from verify.flow.contract import Contract, load
    from verify.flow.reading import read
    from verify.flow.render import RENDERERS
    from verify.flow.report import Question, analyse, together

    asked = Question(state=state, items=items, **({"fields": fields} if fields else {}))
    promised = load(contract) if contract else Contract()
    reports = together(analyse(machine, asked, promised) for path in machines for machine in read(Path(path)))
    if state is not None and not any(report.targets for report in reports):
        raise WrongQuestion(
            f"No state is named {state!a}.", hint="Names are as in the definition; * stands for any text."
        )
    if settings.json:
        click.echo(RENDERERS["json"](reports), nl=False)
    write(outputs, lambda name: RENDERERS[name](reports), as_json=settings.json)
    codes = {report.exit_code for report in reports}
    return 1 if 1 in codes else max(codes)
