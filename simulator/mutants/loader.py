"""Runs changed source without changing a file: an import hook that gives one module with one text replaced by another.

It has to be installed before the module is imported, so a mutant runs in a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Protocol

import attrs

__all__ = ["Change", "Patch", "install"]


@attrs.frozen
class Patch:
    """One text of a module in place of another. `before` stands there exactly once."""

    module: str
    before: str
    after: str

    def applied(self, source: str) -> str:
        """The changed source. `LookupError` where the code has moved on and the patch no longer fits."""
        count = source.count(self.before)
        if count != 1:
            raise LookupError(f"{self.module} has the patched text {count} times: {self.before[:60]!r}")
        return source.replace(self.before, self.after)


class Change(Protocol):
    """What changes a module: a patch of a text, or a mutation at a place."""

    @property
    def module(self) -> str:
        """Its full name."""

    def applied(self, source: str) -> str:
        """The changed source."""


class _Loader(SourceFileLoader):
    """Gives changed source, and never the compiled file of the unchanged one."""

    patches: Sequence[Change] = ()

    def get_code(self, fullname: str):  # type: ignore[no-untyped-def]  # a code object
        source = self.get_data(self.get_filename(fullname)).decode()
        for patch in self.patches:
            source = patch.applied(source)
        return self.source_to_code(source.encode(), self.get_filename(fullname))


class _Finder(MetaPathFinder):
    def __init__(self, patches: Sequence[Change]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        mine = [patch for patch in self._patches if patch.module == fullname]
        spec = PathFinder.find_spec(fullname, path, target) if mine else None
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(fullname, spec.origin)
        loader.patches = mine
        spec.loader = loader
        return spec


def install(patches: Sequence[Change]) -> None:
    """From now on the modules of these patches are imported changed. They must not have been imported yet."""
    early = [patch.module for patch in patches if patch.module in sys.modules]
    if early:
        raise RuntimeError(f"{early[0]} was imported before it could be changed.")
    sys.meta_path.insert(0, _Finder(patches))
