"""What settings may not be beyond their types: single values, places that lie in one another, names that mean two things.

Each check raises, or tells, before any store is opened; `config` says where a value came from.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.assembly import BACKENDS, PORTS, Choice
from embedpipe.errors import ConfigError
from embedpipe.layout import Layout, safe_name
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow

__all__ = ["check_apart", "check_directory", "check_value", "naming_problem"]

_LEAST: Final[Mapping[str, float]] = {"attempts": 1, "timeout_s": 0.1}
"""The least value of an option of a backend; 0 for all others."""


def check_value(key: str, value: Any, sections: Mapping[str, type[attrs.AttrsInstance]]) -> None:
    """Refuse a value of the right type that makes no sense; `sections` are those that are no backend's. `ValueError`."""
    section, _, name = key.rpartition(".")
    if key == "kind":
        safe_name(value, "kind")
    elif section in sections:
        attribute = attrs.fields_dict(sections[section])[name]
        if attribute.validator is not None:
            attribute.validator(None, attribute, value)
    elif name == "backend" and ":" not in value and value not in BACKENDS[section]:
        known = ", ".join(sorted(BACKENDS[section]))
        raise ConfigError(f"there is no backend {value!a}.", hint=f"Use {known}, or 'package.module:Class'.")
    elif section in PORTS and type(value) in (int, float) and value < _LEAST.get(name, 0):
        raise ConfigError(f"{value!a} is refused.", hint=f"Use {_LEAST.get(name, 0)} or more.")
    elif (key == "provider.model" and not value) or (key == "provider.dimensions" and value <= 0):
        raise ConfigError(f"{value!a} is refused.", hint="Name the model, and the length of its vectors.")


def check_directory(root: Path, source: str) -> None:
    """Refuse a root that can't be made, since something else is in its way."""
    there = next(path for path in (root, *root.parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        raise ConfigError(f"{source}: root {root}: {there} is no directory.", hint="Name another place.", key="root")


def check_apart(choices: Mapping[str, Choice], sources: Mapping[str, str]) -> None:
    """Refuse a store that would write among the files of another. `sources` says where each setting comes from."""
    paths = {
        f"{section}.{name}": Path(os.path.realpath(value))
        for section, choice in choices.items()
        for name, value in choice.options.items()
        if isinstance(value, Path)
    }
    for (outer, one), (inner, other) in permutations(paths.items(), 2):
        if other.is_relative_to(one):
            key = outer if sources[inner] == "default" else inner
            raise ConfigError(
                f"{sources[key]}: {inner} ({other}) is inside {outer} ({one}).",
                hint="Give each a place of its own.",
                key=key,
            )


def naming_problem(layout: Layout) -> tuple[tuple[str, ...], str]:
    """The fields of the layout that may be wrong, and why; an empty text where all is well.

    >>> naming_problem(Layout(statuses={"PENDING": "COMPLETED"}))
    (('statuses',), "gives the name 'COMPLETED' twice")
    """
    own = [field.name for field in attrs.fields(BatchRow) if field.name != "extra"]
    structural = ("pk", "sk", "index_pk", "index_sk", "type_attribute")
    problem = _problem(layout.statuses, [status.value for status in Status], [])
    if problem:
        return ("statuses",), problem
    return ("attributes", *structural), _problem(layout.attributes, own, [getattr(layout, name) for name in structural])


def _problem(renamed: Mapping[str, str], known: list[str], others: list[str]) -> str:
    unknown = next((name for name in renamed if name not in known), None)
    if unknown is not None:
        return f"renames {unknown!a}, which there is not; there are {', '.join(known)}"
    count = Counter([*others, *(renamed.get(name, name) for name in known)])
    twice = next((name for name, times in count.items() if times > 1), None)
    if twice is not None:
        return f"gives the name {twice!a} twice"
    return "gives an empty name" if "" in count else ""
