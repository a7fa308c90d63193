"""`embedpipe verify doctor` and `embedpipe verify iam-policy`: what an audit needs before it can begin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from verify.sources.options import Named, of_source

if TYPE_CHECKING:
    from embedpipe.model import Kind
    from verify.audit.sources import Source
    from verify.sources.doctor import Examination


@click.command()
@of_source
@common
def doctor(settings: Settings, named: Named) -> int:
    """Read a little of each source, and say what to fix. Changes nothing.

    Ends with 0 where all that is named can be read, else with 3.

    \b
    Example:
      embedpipe verify doctor --root .embedpipe
      embedpipe verify doctor --bucket BUCKET --table TABLE --state-machine-arn ARN --log-group GROUP
    """
    import attrs

    from embedpipe.model import kind_named
    from verify.sources.doctor import examine

    source = named.source(settings)
    try:
        kinds = source.kinds or _kinds_there(source) or (kind_named(settings.load().kind),)
        seen = examine(attrs.evolve(source, kinds=kinds))
    finally:
        source.close()
    if settings.json:
        click.echo(json_text({**attrs.asdict(seen), "exit_code": seen.exit_code}))
    else:
        click.echo(as_text(seen), nl=False)
    return seen.exit_code


def _kinds_there(source: Source) -> tuple[Kind, ...]:
    """Those that have a ledger, where that can be found out; what can't be read is told by the examination."""
    from embedpipe.errors import EmbedpipeError
    from verify.audit.enumeration import ledgers

    try:
        return tuple(kind for _, kind in ledgers(source.objects, source.layout))
    except EmbedpipeError:
        return ()


def as_text(seen: Examination) -> str:
    """One line for each read, and below it what mends it."""
    lines: list[str] = []
    for read in seen.reads:
        lines.append(f"{read.outcome:<12}  {read.source:<9}  {read.read}: {read.said}")
        lines += [f"{'':<12}  fix: {read.fix}"] if read.fix else []
    return "\n".join(lines) + "\n"


@click.command("iam-policy")
@of_source
@common
def iam_policy(settings: Settings, named: Named) -> None:  # noqa: ARG001  what it prints is JSON anyway
    """Print the policy that an audit needs: it reads what is named, or all there is, and allows nothing else.

    \b
    Example:
      embedpipe verify iam-policy --bucket BUCKET --table TABLE --state-machine-arn ARN --log-group GROUP
    """
    from embedpipe.layout import SEED
    from verify.audit.files import read_layout
    from verify.sources.permissions import policy

    made = policy(
        bucket=named.bucket,
        table=named.table,
        machines=named.machines,
        log_groups=named.log_groups,
        region=named.region,
        layout=read_layout(Path(named.layout)) if named.layout else SEED,
    )
    click.echo(json_text(made))
