"""`embedpipe verify repair plan`, `apply` and `undo`: reads options, calls the library, prints. It decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from embedpipe.errors import full_disk
from verify.audit.asking import asking
from verify.sources.options import COMMON, Named, again, of_source

if TYPE_CHECKING:
    from verify.repair.applying import Done
    from verify.repair.plan import Plan
    from verify.repair.stores import Stores

STALE: Final = 1
"""Exit code where an action was refused, because its target has moved."""


@click.group()
def repair() -> None:
    """Mend what an audit has found: plan it, look at the plan, apply it; undo it."""


@repair.command()
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Where the plan goes. [default: stdout]")
@asking
@of_source
@common
def plan(settings: Settings, out: Path | None, named: Named, **asked: Any) -> int:
    """Audit, and write down what would mend the findings. Changes nothing.

    Only repairs that are safe become actions: conditional writes that can be undone. What needs a person is said. The
    audit is that of `check` with the same options.

    \b
    Example:
      embedpipe verify repair plan --root .embedpipe --out repair.json
      embedpipe verify repair plan --bucket BUCKET --table TABLE --region REGION --out repair.json
    """
    import verify
    from verify.repair.planning import plan_repair

    source = named.source(settings)
    asked["suppressions"] = asked["suppressions"] or ()
    try:
        made = plan_repair(source, verify.check(source, **asked))
    finally:
        source.close()
    if out is not None:
        with full_disk(str(out)):
            out.write_text(made.dump(), encoding="utf-8")
    if settings.json or (out is None and not sys.stdout.isatty()):
        click.echo(made.dump(), nl=False)
    else:
        click.echo(_told(made, out), nl=False)
    return 0


def _told(made: Plan, out: Path | None) -> str:
    lines = [f"{len(made.actions)} actions, {len(made.proposals)} things that no action mends."]
    for action in made.actions:
        lines.append(f"  {', '.join(action.mends):6} {action.do} {action.target}: {action.reason}")
    for proposal in made.proposals:
        lines.append(f"  {proposal.code:6} {proposal.location}: {proposal.advice}")
    if made.actions:
        lines.append(f"Next: {again('verify', 'repair', 'apply', str(out or 'PLAN'))}")
    elif made.then_ingest:
        lines.append(f"Next: {_ingest()}")
    return "".join(f"{line}\n" for line in lines)


def _ingest() -> str:
    """What lets the pipeline go on: a command for a root, an execution for a deployment."""
    if any(click.get_current_context().params[name] for name in ("bucket", "table")):
        return "start an execution of the ingest machine"
    return again("ingest", known=COMMON)


@repair.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@of_source
@common
def apply(settings: Settings, plan: Path, dry_run: bool, named: Named) -> int:
    """Do what a plan says, each action only where its target is as it was seen. Applied again it changes nothing.

    Nothing is deleted: what was there is kept below quarantine/. Ends with 1 where an action was refused.

    \b
    Example:
      embedpipe verify repair apply repair.json --root .embedpipe
      embedpipe verify repair apply repair.json --bucket BUCKET --table TABLE --region REGION
    """
    from verify.repair.applying import apply_plan
    from verify.repair.plan import read_plan

    made = read_plan(plan)
    with _open(named, settings) as stores:
        done = list(apply_plan(made, stores, dry_run=dry_run))
    _print(done, settings, journal=made.id)
    if not settings.json and not made.actions:
        click.echo(_told(made, plan), nl=False)
    elif not settings.json and not dry_run:
        if made.then_ingest:
            click.echo(f"Next: {_ingest()}")
        click.echo(f"Next: {again('verify', 'check')}")
        click.echo(f"Undo: {again('verify', 'repair', 'undo', made.id)}")
    return STALE if any(each.came == "stale" for each in done) else 0


@repair.command()
@click.argument("journal")
@of_source
@common
def undo(settings: Settings, journal: str, named: Named) -> int:
    """Put back what `apply` found, where nothing newer stands there. JOURNAL is the name that it printed.

    \b
    Example:
      embedpipe verify repair undo 0f3a9c1e5b7d2846 --root .embedpipe
    """
    from verify.repair.applying import undo as undo_plan

    with _open(named, settings) as stores:
        _print(list(undo_plan(journal, stores)), settings, journal=journal)
    return 0


@contextmanager
def _open(named: Named, settings: Settings) -> Iterator[Stores]:
    stores = named.stores(settings)
    try:
        yield stores
    finally:
        stores.close()


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
