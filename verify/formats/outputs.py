"""`--format FORMAT[=FILE]`, repeatable, the same for every command that reports: at most one to stdout, the others to files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import click

from embedpipe.errors import full_disk

__all__ = ["Outputs", "format_option", "write"]

Outputs = tuple[tuple[str, str], ...]
"""(format, file); an empty file is stdout."""


def format_option(formats: Collection[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option, for a command that renders these; its value is `outputs`."""
    *others, last = formats

    def read(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> Outputs:
        pairs = [(name, path) for name, _, path in (value.partition("=") for value in values)]
        for name, _path in pairs:
            if name not in formats:
                raise click.BadParameter(f"{name!a} is no format; use {', '.join(formats)}.")
        # Before an audit of hours, not after it.
        for path in (Path(path) for _, path in pairs if path):
            if path.is_dir() or not path.parent.is_dir():
                raise click.BadParameter(f"{str(path)!a} can't be written: a file in a folder that exists, please.")
        if sum(not path for _, path in pairs) > 1:
            raise click.BadParameter("only one format can go to stdout; give the others a file: html=report.html")
        return tuple(pairs)

    return click.option(
        "--format",
        "outputs",
        metavar="FORMAT[=FILE]",
        multiple=True,
        callback=read,
        help=f"{', '.join(others)} or {last}, to stdout or a file; repeatable. [default: text]",
    )


def write(outputs: Outputs, render: Callable[[str], str], *, as_json: bool) -> None:
    """Write what was asked for, and text to stdout where nothing else goes there; `as_json`: the caller has used stdout."""
    for name, path in _with_stdout(outputs, used=as_json):
        text = render(name)
        if not path:
            click.echo(text, nl=False)
            continue
        with full_disk(path):
            Path(path).write_text(text, encoding="utf-8")


def _with_stdout(outputs: Outputs, *, used: bool) -> Iterable[tuple[str, str]]:
    if used or any(not path for _, path in outputs):
        return outputs
    return (("text", ""), *outputs)
