"""The commands about settings: init and config show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import print_facts, show, table
from embedpipe.config import CONFIG_FILE, Config
from embedpipe.errors import ConfigError

_SECRET: Final = ("key", "secret", "token", "password", "credential")

_COMMENTS: Final = {
    "": "Settings of embedpipe. A flag or an EMBEDPIPE_... variable beats what is said here.\n"
    "# Commented lines are defaults. Paths count from this file's directory.",
    "objects": "Where files are kept. backend is a name or 'package.module:Class'; other keys are its arguments.",
    "table": "Where the rows of batches are kept.",
    "provider": "What embeds. The model is frozen into a collection: another one needs another kind.",
    "vectors": "Where vectors are searched.",
    "limits": "What one provider batch may hold.",
    "policy": "Time, retries and sizes.",
    "retry": "Repeating calls that failed for a passing reason.",
    "run": "The local runner.",
}


@click.command()
@common
def init(settings: Settings) -> None:
    """Make the root directory and, in it, an embedpipe.toml in which every setting is explained.

    Not needed: every command works without. An embedpipe.toml that is there stays as it is.

    \b
    Example:
      embedpipe init --root articles --kind article
    """
    if settings.file is not None:
        raise ConfigError("init writes embedpipe.toml in the root.", hint="Leave --config out.")
    config = settings.load()
    root = config.root
    path = root / CONFIG_FILE
    created = not path.exists()
    if created:
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(toml_text(config), encoding="utf-8")
    document = {"root": config.root, "file": path.absolute(), "created": created}
    words = "written" if created else "was there and stays as it is"
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    show(document, as_json=settings.json, human=lambda console: console.print(f"{shown}: {words}", soft_wrap=True))


def toml_text(config: Config) -> str:
    """An embedpipe.toml with every setting; those that are defaults are commented out."""
    lines: list[str] = []
    section = None
    for key, origin in config.origins.items():
        head, _, name = key.rpartition(".")
        if head == "layout" or key == "root":
            continue
        if head != section:
            section = head
            lines += [f"# {_COMMENTS[head]}"] if not head else ["", f"# {_COMMENTS[head]}", f"[{head}]"]
        given = origin.source == "flag"
        lines.append(f"{'' if given else '# '}{name} = {_toml_value(origin.value, config)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any, config: Config) -> str:
    if isinstance(value, Path):
        value = str(value.relative_to(config.root)) if value.is_relative_to(config.root) else str(value)
    # JSON's strings, numbers and booleans are TOML's too.
    return json.dumps(value)


@click.group()
def config() -> None:
    """Show the settings and where they come from."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@common
def config_show(settings: Settings, origin: bool) -> None:
    """Show every setting as the other commands see it. What looks like a secret is not printed.

    \b
    Example:
      EMBEDPIPE_LIMITS__REQUESTS_PER_BATCH=500 embedpipe config show --origin
    """
    loaded = settings.load()
    entries = {
        key: {"value": _shown(key, given.value), "origin": given.source} for key, given in loaded.origins.items()
    }
    document = {"file": loaded.file, "settings": entries}
    show(document, as_json=settings.json, human=lambda console: _print_config(console, entries, loaded, origin))


def _print_config(console: Console, entries: dict[str, dict[str, Any]], loaded: Config, origin: bool) -> None:
    print_facts(console, [("file", loaded.file or "none")])
    console.print()
    columns = ("key", "value", "origin") if origin else ("key", "value")
    rows = [
        (key, "" if entry["value"] is None else str(entry["value"]), entry["origin"])[: len(columns)]
        for key, entry in entries.items()
    ]
    console.print(table(columns, rows))


def _shown(key: str, value: Any) -> Any:
    name = key.rpartition(".")[2].lower()
    if any(word in name for word in _SECRET) and isinstance(value, str) and not key.startswith("layout."):
        return "(set, not shown)" if value else ""
    return value
