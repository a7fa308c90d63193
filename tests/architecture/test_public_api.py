"""The public API, name by name with its signature: a change of it is made on purpose, in `public_api.txt`.

`python tests/architecture/test_public_api.py` writes the file anew.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

SNAPSHOT = Path(__file__).with_name("public_api.txt")
PACKAGES = ("embedpipe", "verify")


def described() -> str:
    return "".join(f"{line}\n" for package in PACKAGES for line in lines(package))


def lines(package: str) -> Iterator[str]:
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield f"{package}.{name}{signature(value)}"
            for member, function in sorted(vars(value).items()):
                plain = getattr(function, "__func__", function)  # of a classmethod
                if not member.startswith("_") and inspect.isfunction(plain):
                    yield f"{package}.{name}.{member}{signature(plain)}"
        else:
            yield f"{package}.{name}{signature(value) if callable(value) else ''}"


def signature(value: object) -> str:
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(value)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"


def test_the_public_api_is_as_written_down() -> None:
    assert described() == SNAPSHOT.read_text()


def test_names_are_sorted() -> None:
    for package in PACKAGES:
        names = list(getattr(importlib.import_module(package), "__all__", ()))
        assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


if __name__ == "__main__":
    SNAPSHOT.write_text(described())
