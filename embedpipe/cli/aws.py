"""The commands about the deployment on AWS."""

from __future__ import annotations

import re
from pathlib import Path

import click
from rich.console import Console

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text, print_facts, show
from embedpipe.errors import InvalidInput
from embedpipe.model import kind_named


def _schedule(_: click.Context, __: click.Parameter, value: str) -> str:
    if re.fullmatch(r"(rate|cron)\([^()]+\)", value) is None:
        raise click.BadParameter(f"{value!a} is neither like 'rate(15 minutes)' nor like 'cron(0 * * * ? *)'.")
    return value


@click.group()
def aws() -> None:
    """Put the pipeline up on AWS."""


@aws.command()
@click.option("--out", required=True, metavar="DIR", help="Where the files go; made where it is missing.")
@click.option(
    "--schedule",
    default="rate(15 minutes)",
    show_default=True,
    callback=_schedule,
    metavar="WHEN",
    help="When to ingest.",
)
@click.option("--force", is_flag=True, help="Write over files that are there and differ.")
@common
def template(settings: Settings, out: str, schedule: str, force: bool) -> None:
    """Write a SAM template, the state machines and a Dockerfile for one kind. Needs no account and sends nothing.

    Settings of [layout], [limits], [policy] and [retry] go with it, in an embedpipe.toml of its own.

    \b
    Example:
      embedpipe aws template --kind word --out deploy
      cd deploy && sam build -t template.json && sam deploy --guided
    """
    from embedpipe.aws.settings import choices
    from embedpipe.aws.template import files

    config = settings.load()
    made = files(kind_named(config.kind), choices(config, schedule))
    folder = Path(out)
    texts = {folder / name: text if isinstance(text, str) else json_text(text) + "\n" for name, text in made.items()}
    differing = [path for path, text in texts.items() if path.exists() and path.read_text() != text]
    if differing and not force:
        raise InvalidInput(
            f"{', '.join(map(str, differing))}: there already, with other content.",
            hint="Look at the difference, then use --force.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text)
    document = {"kind": config.kind, "files": list(texts)}

    def human(console: Console) -> None:
        print_facts(console, [("written", path) for path in texts])

    show(document, as_json=settings.json, human=human)
