"""The pages of the documentation, cut into what can be checked: fenced blocks, headings, links, inline code.

A block's first line may carry a title, as in ```python title="store.py"```: it is then a file that the other blocks find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
GENERATED = re.compile(
    r"(?P<start><!-- generated: (?P<name>[a-z-]+) -->\n)(?P<text>.*?)(?P<end><!-- end -->)", re.DOTALL
)

_FENCE = re.compile(
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


@attrs.frozen(kw_only=True)
class Block:
    """One fenced block."""

    language: str
    title: str | None
    text: str
    line: int
    """Line of its first line of text, from 1."""
    start: int
    end: int
    """From its first backtick to its last, in the page."""


def blocks(page: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(
            language=found["language"],
            title=found["title"],
            text=found["text"],
            line=page.count("\n", 0, found.start("text")) + 1,
            start=found.start(),
            end=found.end(),
        )
        for found in _FENCE.finditer(page)
    ]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page)


def links(page: str) -> list[str]:
    """Targets of links."""
    return _LINK.findall(prose(page))


def inline_code(page: str) -> list[str]:
    """What stands between single backticks."""
    return _CODE.findall(prose(page))


def anchors(page: str) -> set[str]:
    """The names under which headings can be linked to."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        for heading in _HEADING.findall(prose(page))
    }


def examples(page: str) -> Iterator[tuple[Block, str | None]]:
    """Each block of Python to run, with the block of text that directly follows it: what it prints."""
    found = blocks(page)
    for at, block in enumerate(found):
        following = found[at + 1] if at + 1 < len(found) else None
        if block.language == "python" and block.title is None:
            adjacent = following is not None and not page[block.end : following.start].strip()
            yield block, following.text if following is not None and adjacent and following.language == "text" else None


def files(page: str) -> Mapping[str, str]:
    """Blocks that are files, by name."""
    return {block.title: block.text for block in blocks(page) if block.title is not None}
