"""The options that say what is asked of an audit, as one decorator: `check` has them, and so has `repair plan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

__all__ = ["asking"]

F = TypeVar("F", bound=Callable[..., Any])


def _codes(_: click.Context, __: click.Parameter, values: tuple[str, ...] | str | None) -> list[str]:
    values = (values,) if isinstance(values, str) else values or ()
    return [code.strip() for value in values for code in value.split(",") if code.strip()]


_OPTIONS: Final = (
    click.option(
        "--depth",
        type=click.Choice(("metadata", "content", "vectors")),
        default="content",
        show_default=True,
        help="How closely to look: keys and rows, objects parsed and hashed, or every vector compared.",
    ),
    click.option("--execution", "executions", metavar="ID", multiple=True, help="Only this execution; repeatable."),
    click.option("--since", metavar="AGE", help="Only what began since a time or an age, such as 7d."),
    click.option(
        "--select",
        metavar="CODES",
        multiple=True,
        callback=_codes,
        help="Only these codes or families, such as P,B701.",
    ),
    click.option("--ignore", metavar="CODES", multiple=True, callback=_codes, help="Not these codes or families."),
    click.option(
        "--grace",
        "grace_s",
        type=click.FloatRange(min=0),
        default=3_600.0,
        show_default=True,
        metavar="SECONDS",
        help="What is younger may still be on its way.",
    ),
    click.option(
        "--scope",
        metavar="SOURCES",
        callback=_codes,
        help="Of objects, table, vectors, provider, histories, logs those to read. [default: all]",
    ),
    click.option(
        "--suppressions",
        metavar="FILE",
        help="Findings to live with: object, reason, expires; TOML.",
    ),
)


def asking(function: F) -> F:
    """Add the options; the command gets them as `verify.check` takes them, but for `suppressions` without a file: None."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
