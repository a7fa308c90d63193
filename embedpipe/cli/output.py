"""What a command prints on stdout: a JSON document, or lines and tables for a person.

Text from users and providers goes to rich only as `Text`, cleaned of control characters, never as markup.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedpipe.cli.app import printable
from embedpipe.wire import encode

PLAIN_COLUMNS: Final = 160  # a width for files and pipes, so that ids stay whole


def show(document: Any, *, as_json: bool, human: Callable[[Console], None]) -> None:
    """Print `document` as JSON, or what `human` writes."""
    if as_json:
        click.echo(json_text(document))
    else:
        human(console())


def json_text(document: Any) -> str:
    """Indented JSON of attrs values, dicts, paths and times."""
    plain = msgspec.to_builtins(document, enc_hook=str)
    return msgspec.json.format(encode(plain)).decode()


def console() -> Console:
    """Stdout for tables; as wide as the terminal, or wide enough when there is none."""
    stream = sys.stdout or io.StringIO()  # it may have been closed from outside
    width = shutil.get_terminal_size().columns if stream.isatty() else PLAIN_COLUMNS
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def clean(value: object, *, chars_max: int = 0) -> Text:
    """A value as harmless text on one line, cut to `chars_max` where that is not 0."""
    text = printable(f"{value:,}" if type(value) is int else str(value))
    return Text(text if not chars_max or len(text) <= chars_max else text[: chars_max - 1] + "…")


def print_facts(console: Console, rows: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line, without those that are None. Lines are never broken, so paths stay whole."""
    shown = [(name, value) for name, value in rows if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        line = Text.assemble((name.ljust(width), "dim"), "  ", clean(value))
        console.print(line, soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()) -> Table:
    """A table with a head; the columns in `numbers` are right-aligned."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(value if isinstance(value, Text) else clean(value) for value in row))
    return made
