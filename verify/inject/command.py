"""`embedpipe verify inject`: reads options, calls the library, prints. It decides nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text

__all__ = ["inject"]


@click.command()
@click.argument("code", required=False)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="The copy. [default: beside the root]")
@click.option("--variant", metavar="NAME", help="One of the ways to bring it about, as --list names them.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which batch, and which way first.")
@click.option("--list", "listed", is_flag=True, help="Print the codes and their variants, and do nothing.")
@common
def inject(settings: Settings, code: str | None, out: Path | None, variant: str | None, seed: int, listed: bool) -> int:
    """Plant the fault that a code is about in a copy of a root, to see the alarm go off. The root itself is only read.

    Ends with 3 where the root has nothing in which the fault could be.

    \b
    Example:
      embedpipe verify inject B701 --root .embedpipe
      embedpipe verify inject --list
    """
    from verify.audit.catalogue import rule
    from verify.audit.findings import Severity, WrongQuestion
    from verify.inject.injecting import PLANTED
    from verify.inject.injecting import inject as plant

    if listed:
        click.echo(json_text(PLANTED) if settings.json else _listed(PLANTED), nl=settings.json)
        return 0
    if code is None:
        raise WrongQuestion("No code is named.", hint="Name one, as --list prints them.")
    config = settings.load()
    copy = out or config.root.absolute().with_name(f"{config.root.absolute().name}-{code.upper()}")
    made = plant(code, config, copy, kind=settings.kind, seed=seed, variant=variant)
    check = f"embedpipe verify check --root {shlex.quote(str(copy))}"
    check += f" --kind {shlex.quote(settings.kind)}" if settings.kind else ""
    check += " --depth vectors --grace 0"
    check += " --fail-on info" if rule(made.code).severity is Severity.INFO else ""
    if settings.json:
        document = {
            "code": made.code,
            "variant": made.variant,
            "copy": made.copy,
            "changed": list(made.changed),
            "batch_ids": list(made.batch_ids),
            "next": check,
        }
        click.echo(json_text(document))
        return 0
    click.echo(f"{made.code} ({made.variant}) is planted in {made.copy}:")
    click.echo("".join(f"  changed {place}\n" for place in made.changed), nl=False)
    click.echo("".join(f"  batch {name}\n" for name in made.batch_ids), nl=False)
    click.echo(f"Next: {check}")
    return 0


def _listed(planted: Mapping[str, tuple[str, ...]]) -> str:
    return "".join(f"{code}  {', '.join(names)}\n" for code, names in planted.items())
