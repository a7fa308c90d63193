"""How tables of the documentation are written."""

from __future__ import annotations

from collections.abc import Sequence


def rows(header: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(value: object) -> str:
    return f"`{value}`" if value not in ("", None) else ""
