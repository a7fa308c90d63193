"""`embedpipe verify repair plan`, `apply` and `undo`: reads options, calls the library, prints. It decides nothing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from embedpipe.errors import full_disk

if TYPE_CHECKING:
    from verify.repair.applying import Done
    from verify.repair.plan import Plan

STALE: Final = 1
"""Exit code where an action was refused, because its target has moved."""


@click.group()
def repair() -> None:
    """Mend what an audit has found: plan it, look at the plan, apply it; undo it."""


@repair.command()
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Where the plan goes. [default: stdout]")
@click.option("--depth", type=click.Choice(("metadata", "content", "vectors")), default="content", show_default=True)
@click.option("--select", metavar="CODES", multiple=True, help="Only these codes or families, such as P,B702.")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=3_600.0,
    show_default=True,
    metavar="SECONDS",
    help="What is younger may still be on its way.",
)
@common
def plan(settings: Settings, out: Path | None, select: tuple[str, ...], **asked: Any) -> int:
    """Audit, and write down what would mend the findings. Changes nothing.

    Only repairs that are safe become actions: conditional writes that can be undone. What needs a person is said.

    \b
    Example:
      embedpipe verify repair plan --root .embedpipe --out repair.json
    """
    import verify
    from verify.repair.planning import plan_repair

    config = settings.load()
    source = verify.root(config.root, kind=settings.kind, config=config)
    codes = [code.strip() for value in select for code in value.split(",") if code.strip()]
    try:
        made = plan_repair(source, verify.check(source, select=codes, **asked))
    finally:
        source.close()
    if out is not None:
        with full_disk(str(out)):
            out.write_text(made.dump(), encoding="utf-8")
    if settings.json or (out is None and not sys.stdout.isatty()):
        click.echo(made.dump(), nl=False)
    else:
        click.echo(_told(made, out, _there(settings)), nl=False)
    return 0


def _there(settings: Settings) -> str:
    """The options that name the same root, as the next command needs them."""
    given = {"--root": settings.root, "--config": settings.file, "--kind": settings.kind}
    return "".join(f" {option} {shlex.quote(value)}" for option, value in given.items() if value is not None)


def _told(made: Plan, out: Path | None, there: str) -> str:
    lines = [f"{len(made.actions)} actions, {len(made.proposals)} things that no action mends."]
    for action in made.actions:
        lines.append(f"  {', '.join(action.mends):6} {action.do} {action.target}: {action.reason}")
    for proposal in made.proposals:
        lines.append(f"  {proposal.code:6} {proposal.location}: {proposal.advice}")
    if made.actions:
        lines.append(f"Next: embedpipe verify repair apply {out or 'PLAN'}{there}")
    elif made.then_ingest:
        lines.append(f"Next: embedpipe ingest{there}")
    return "".join(f"{line}\n" for line in lines)


@repair.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@common
def apply(settings: Settings, plan: Path, dry_run: bool) -> int:
    """Do what a plan says, each action only where its target is as it was seen. Applied again it changes nothing.

    Nothing is deleted: what was there is kept below quarantine/. Ends with 1 where an action was refused.

    \b
    Example:
      embedpipe verify repair apply repair.json --root .embedpipe
    """
    from verify.repair.applying import apply_plan
    from verify.repair.plan import read_plan
    from verify.repair.stores import writing

    made = read_plan(plan)
    with writing(settings.load()) as stores:
        done = list(apply_plan(made, stores, dry_run=dry_run))
    _print(done, settings, journal=made.id)
    if not settings.json and not dry_run:
        there = _there(settings)
        if made.then_ingest:
            click.echo(f"Next: embedpipe ingest{there}")
        click.echo(f"Next: embedpipe verify check{there}")
        click.echo(f"Undo: embedpipe verify repair undo {made.id}{there}")
    return STALE if any(each.came == "stale" for each in done) else 0


@repair.command()
@click.argument("journal")
@common
def undo(settings: Settings, journal: str) -> int:
    """Put back what `apply` found, where nothing newer stands there. JOURNAL is the name that it printed.

    \b
    Example:
      embedpipe verify repair undo 0f3a9c1e5b7d2846 --root .embedpipe
    """
    from verify.repair.applying import undo as undo_plan
    from verify.repair.stores import writing

    with writing(settings.load()) as stores:
        _print(list(undo_plan(journal, stores)), settings, journal=journal)
    return 0


def _print(done: Iterable[Done], settings: Settings, *, journal: str) -> None:
    if settings.json:
        shown = [
            {"did": each.action.do, "target": each.action.target, "came": each.came, "why": each.why} for each in done
        ]
        click.echo(json_text({"journal": journal, "actions": shown}))
        return
    for each in done:
        why = f": {each.why}" if each.why else ""
        click.echo(f"{each.came}: {each.action.do} {each.action.target}{why}")
