"""The group behind `embedpipe`: finds commands lazily, and turns every ending into one sentence and one exit code.

Only this module decides exit codes, from `errors.EXIT_CODES`. It imports click and `errors`, nothing else of ours.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

import click

from embedpipe.cli.commands import COMMANDS
from embedpipe.errors import (
    EXIT_CODES,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_SERVICE,
    EXIT_USAGE,
    CorruptData,
    EmbedpipeError,
)


class Failure(Exception):
    """How a command ended badly: its exit code, the sentence, and the stable name of the error."""

    def __init__(
        self, exit_code: int, message: str, *, hint: str = "", code: str, context: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.hint = hint
        self.code = code
        self.context = context


class LazyGroup(click.Group):
    """A group whose commands are looked up in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's
        """Import and return one."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest name when there is no such command."""
        if args and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!a}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        """The list in the help, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        """The table of exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but a closed pipe is no error: its reader has seen enough, and the work was done before."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # it may have been closed from outside
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_OK
        return result

    def main(self, args: Sequence[str] | None = None, *arguments: Any, **extra: Any) -> NoReturn:
        """Run a command and exit."""
        given = list(sys.argv[1:] if args is None else args)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character is shown its number
                stream.reconfigure(errors="backslashreplace")
        flags = given[: given.index("--")] if "--" in given else given
        try:
            code = _run(super().main, given, arguments, extra, debug="--debug" in flags)
        except Failure as failure:
            report(failure, as_json="--json" in flags)
            code = failure.exit_code
        sys.exit(code)


def _run(main: Any, given: list[str], arguments: Any, extra: dict[str, Any], *, debug: bool) -> int:
    try:
        result = main(given, *arguments, **{**extra, "standalone_mode": False, "obj": tuple(given)})
    except Exception as error:
        if debug:
            _print_traceback()
        raise _failure(error) from error
    return result if isinstance(result, int) else EXIT_OK


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _failure(error: Exception) -> Failure:
    """The ending that an exception means."""
    if isinstance(error, EmbedpipeError):
        hint = error.hint or _usual_hint(error)
        message = error.message if not hint or error.message.endswith(".") else f"{error.message}."
        return Failure(error.exit_code, message, hint=hint, code=error.code, context=error.context)
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "embedpipe"
        return Failure(EXIT_USAGE, _misused(error), hint=f"See: {command} --help", code="usage")
    if isinstance(error, click.ClickException):
        return Failure(EXIT_USAGE, error.format_message(), code="usage")
    if isinstance(error, click.Abort):
        hint = "Run the same command again to go on."
        return Failure(EXIT_INTERRUPTED, "Interrupted.", hint=hint, code="interrupted")
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        hint = "Nothing was lost; run the same command again once that is put right."
        return Failure(EXIT_SERVICE, f"{place}{error.strerror}.", hint=hint, code="os_error")
    return Failure(
        EXIT_INTERNAL,
        f"An error in embedpipe itself: {type(error).__name__}: {error}".rstrip(".") + ".",
        hint="Nothing was lost. Please report it with what the same command prints under --debug.",
        code="internal",
    )


def _misused(error: click.UsageError) -> str:
    """Click's sentence, whole; where no command was named, the ones there are in place of all the help."""
    group = error.ctx.command if error.ctx else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and isinstance(group, click.Group):
        return f"Name a command: {', '.join(group.list_commands(error.ctx))}."
    said = error.format_message()
    return said if said.endswith((".", "?")) else f"{said}."


def _usual_hint(error: EmbedpipeError) -> str:
    """What to do about stored bytes that are damaged, where whoever found them knows no better."""
    if not isinstance(error, CorruptData):
        return ""
    is_object = "where" in error.context or "key" in error.context
    place = " ('files' objects are below objects/ in the root)" if is_object else ""
    return f"Restore it from a backup{place}, then run the same command again; what is not damaged stays as it is."


def report(failure: Failure, *, as_json: bool) -> None:
    """Say it in one sentence on stderr; with `--json`, stdout has the same as an object."""
    sentence = f"{failure.message} {failure.hint}".strip()
    with suppress(OSError):  # nobody may be reading
        click.echo(f"error: {printable(sentence)}", err=True)
    if as_json:
        from embedpipe.wire import encode

        document = {
            "code": failure.code,
            "message": failure.message,
            "hint": failure.hint,
            "exit_code": failure.exit_code,
            "context": {name: str(value) for name, value in (failure.context or {}).items()},
        }
        click.echo(encode({"error": document}))


def printable(text: str) -> str:
    r"""One line that a terminal cannot be tricked with: control and bidirectional characters are spelled out.

    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m b'
    """
    joined = " ".join(text.split("\n"))
    if joined.isprintable():
        return joined
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in joined)


HELP: Final = textwrap.dedent("""\
    Batch embedding that proves nothing was lost.

    Records in, a searchable collection out; every command can be stopped and run again.

    \b
    Example:
      embedpipe run notes.jsonl --kind notes
      embedpipe search "how do I handle an exception?" --kind notes
""")


@click.group(
    cls=LazyGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="embedpipe", message="embedpipe %(version)s")
def cli() -> None:
    """The group of all commands."""


def main() -> NoReturn:
    """Entry point of the console script."""
    cli.main(prog_name="embedpipe")
