"""Where mutations are made: the modules of stages and steps, as they are installed."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from simulator.mutations.operators import Mutation, mutations

__all__ = ["all_mutations", "source_of"]

FOLDERS: Final = ("stages", "steps")


def all_mutations(patterns: Sequence[str] = ()) -> list[Mutation]:
    """Those whose names fit one of the patterns; of all stages and steps where there is none."""
    paths = [path for folder in FOLDERS for path in sorted(Path(_root(), folder).glob("*.py"))]
    made = [one for path in paths for one in mutations(_name(path), path.read_text(encoding="utf-8"))]
    return [one for one in made if not patterns or any(fnmatchcase(one.name, pattern) for pattern in patterns)]


def _root() -> str:
    found = find_spec("embedpipe")
    assert found is not None
    assert found.submodule_search_locations
    (root,) = found.submodule_search_locations
    return root


def source_of(module: str) -> str:
    """The text of a module."""
    _, *parts = module.split(".")
    return Path(_root(), *parts).with_suffix(".py").read_text(encoding="utf-8")


def _name(path: Path) -> str:
    return f"embedpipe.{path.parent.name}.{path.stem}"
