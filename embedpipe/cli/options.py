"""The options that every command has, as one decorator, and the `Settings` they become."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import click

from embedpipe.config import Config

F = TypeVar("F", bound=Callable[..., Any])

FORMATS: Final = ("auto", "jsonl", "text")


@attrs.frozen(kw_only=True)
class Settings:
    """What the common options said."""

    root: str | None
    file: str | None
    kind: str | None
    overrides: tuple[tuple[str, str], ...]
    json: bool
    quiet: bool
    debug: bool

    def load(self, *, default_root: Path | None = None) -> Config:
        """The configuration of this command."""
        flags: dict[str, Any] = dict(self.overrides)
        if self.kind is not None:
            flags["kind"] = self.kind
        config = Config.load(self.root, file=self.file, flags=flags)
        if default_root is not None and config.origins["root"].source == "default":
            config = Config.load(default_root, file=self.file, flags=flags)
        return config


def _override(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [value.partition("=") for value in values]
    for value, (key, equals, _rest) in zip(values, pairs, strict=True):
        if not equals or not key.strip():
            raise click.BadParameter(f"{value!a} is not KEY=VALUE, such as limits.requests_per_batch=1000.")
    return tuple((key.strip(), value) for key, _, value in pairs)


_OPTIONS: Final = (
    click.option("--root", metavar="DIR", help="Where everything is kept. [default: .embedpipe]"),
    click.option("--config", "file", metavar="FILE", help="Settings. [default: embedpipe.toml in the root]"),
    click.option("--kind", metavar="NAME", help="What the records are; each kind has a collection. [default: record]"),
    click.option(
        "--set", "overrides", metavar="KEY=VALUE", multiple=True, callback=_override, help="Override one setting."
    ),
    click.option("--json", is_flag=True, help="Print one JSON document on stdout."),
    click.option("--quiet", "-q", is_flag=True, help="Show no progress."),
    click.option("--debug", is_flag=True, help="Log everything, and show the traceback of an error."),
)


def common(function: F) -> F:
    """Add the common options; the command gets them as `settings`."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        values = {field.name: kwargs.pop(field.name) for field in attrs.fields(Settings)}
        settings = Settings(**values)
        if settings.debug:
            _log_to_stderr()
        return function(*args, settings=settings, **kwargs)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]  # the wrapper takes the options in place of `settings`


def reading(function: F) -> F:
    """Add FILE… and how to read them."""
    for option in (
        click.option("--encoding", default="utf-8", show_default=True, metavar="NAME", help="Encoding of the files."),
        click.option(
            "--format", type=click.Choice(FORMATS), default="auto", show_default=True, help="JSON lines or plain text."
        ),
        click.argument("files", metavar="FILE...", nargs=-1),
    ):
        function = option(function)
    return function


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
