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
from embedpipe.errors import Interrupted
from verify.audit.asking import asking
from verify.formats.outputs import Outputs, format_option, write
from verify.sources.options import Named, again, of_source

if TYPE_CHECKING:
    from verify.audit.estimate import Estimate
    from verify.audit.options import Progress
    from verify.audit.report import Report

FORMATS: Final[Mapping[str, str]] = {
    "text": "verify.formats.text:render",
    "jsonl": "verify.formats.jsonl:render",
    "junit": "verify.formats.junit:render",
    "sarif": "verify.formats.sarif:render_report",
    "html": "verify.formats.html:render",
}
"""Format -> function from a report to text."""
HEARTBEAT_S: Final = 10.0
ESTIMATED: Final = ("depth", "since", "executions", "scope")
"""Options that change what is called."""


@click.command()
@asking
@click.option(
    "--fail-on",
    type=click.Choice(("critical", "error", "warning", "info")),
    default="warning",
    show_default=True,
    help="End with 1 where a finding is that bad or worse.",
)
@format_option(FORMATS)
@click.option("--resume", metavar="DIR", help="Keep there what has been checked, and go on where that was interrupted.")
@click.option("--dry-run", is_flag=True, help="Only say what would be called, and what that costs.")
@of_source
@common
def check(
    settings: Settings,
    outputs: Outputs,
    named: Named,
    dry_run: bool,
    resume: str | None,
    **asked: Any,
) -> int:
    """Audit what runs left behind: is everything there, and is what says COMPLETED proven? Changes nothing.

    Ends with 0 where it is clean and complete, 1 with findings, 3 where something could not be checked.

    \b
    Example:
      embedpipe verify check --root .embedpipe
      embedpipe verify check --root .embedpipe --depth vectors --format text --format junit=audit.xml
      embedpipe verify check --bucket BUCKET --table TABLE --state-machine-arn ARN --since 7d
    """
    import attrs

    import verify

    source = named.source(settings)
    asked["suppressions"] = asked["suppressions"] or ()
    try:
        if dry_run:
            _say(verify.estimate(source, **{name: asked[name] for name in ESTIMATED}), as_json=settings.json)
            return 0
        with _progress(quiet=settings.quiet) as (on_progress, on_estimate), _resumable(resume) as state:
            report = verify.check(
                source,
                **asked,
                on_progress=on_progress,
                on_estimate=on_estimate,
                resume=state,
            )
    finally:
        source.close()
    report = attrs.evolve(report, repair_command=again("verify", "repair", "plan", "--out", "repair.json"))
    if settings.json:
        from verify.formats import jsonl

        click.echo(json_text(jsonl.document(report)))
    write(outputs, lambda name: _renderer(name)(report), as_json=settings.json)
    return report.exit_code


@contextmanager
def _resumable(resume: str | None) -> Iterator[Path]:
    """Where the state of this audit is. Ctrl-C leaves it there, and says how to go on; nothing else does."""
    import shutil
    import tempfile

    from embedpipe.cli.interrupt import like_ctrl_c

    state = Path(resume) if resume is not None else Path(tempfile.mkdtemp(prefix="embedpipe-verify-"))
    try:
        with like_ctrl_c():
            yield state
    except KeyboardInterrupt:
        # `from None`: nothing is wrong, so there is no traceback to show.
        raise Interrupted("Interrupted; what has been checked is kept.", hint=f"Go on with: {_again(state)}") from None
    except BaseException:
        if resume is None:
            shutil.rmtree(state)
        raise


def _again(state: Path) -> str:
    """This very command, going on."""
    import shlex

    given = list(click.get_current_context().find_root().obj or ())
    if "--resume" in given:
        at = given.index("--resume")
        del given[at : at + 2]
    given = [one for one in given if not one.startswith("--resume=")]
    return shlex.join(["embedpipe", *given, "--resume", str(state)])


def _say(estimate: Estimate, *, as_json: bool) -> None:
    if as_json:
        import attrs

        click.echo(json_text({**attrs.asdict(estimate), "dollars": estimate.dollars}))
    else:
        click.echo(estimate.text)


def _renderer(name: str) -> Callable[[Report], str]:
    module, _, attribute = FORMATS[name].partition(":")
    render: Callable[[Report], str] = getattr(importlib.import_module(module), attribute)
    return render


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[Progress], None], Callable[[Estimate], None] | None]]:
    """On a terminal what will be called, and a line that is written over; elsewhere a line now and then."""
    if quiet or sys.stderr is None:
        yield lambda _: None, None
        return
    from embedpipe.backends.system import SystemClock

    clock = SystemClock()
    terminal = sys.stderr.isatty()
    last = clock.monotonic_s()

    def show(progress: Progress) -> None:
        nonlocal last
        of_all = f" of {progress.total:,}" if progress.total is not None else ""
        if terminal:
            click.echo(f"\r\033[K{progress.stage}: {progress.done:,}{of_all}", nl=False, err=True)
        elif clock.monotonic_s() - last >= HEARTBEAT_S:
            last = clock.monotonic_s()
            click.echo(f"{progress.stage}: {progress.done:,}{of_all} checked", err=True)

    def tell(estimate: Estimate) -> None:
        if terminal:
            click.echo(f"\r\033[K{estimate.text}", err=True)

    yield show, tell
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
