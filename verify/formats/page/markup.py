"""Text of the audited data as markup that can't be more than text. Nothing of it is ever put into an attribute.

Characters that nobody sees, or that reorder what is around them, are spelled out: an id is what it looks like.
"""

from __future__ import annotations

import json
from html import escape
from typing import Final

__all__ = ["code", "more", "number", "shown", "shown_plainly", "value"]

VALUE_CHARS_MAX: Final = 2_000
"""[ours] Of one value; bounds the page."""
LINE_CHARS_MAX: Final = 60
"""[ours] What is longer as JSON is laid out over several lines."""


def shown(text: str) -> str:
    """Text as markup; each unprintable character as its code point.

    >>> shown("a<b\\u202e")
    'a&lt;b<span class="odd">U+202E</span>'
    """
    if text.isprintable():
        return escape(text)
    return "".join(
        escape(char) if char.isprintable() else f'<span class="odd">U+{ord(char):04X}</span>' for char in text
    )


def shown_plainly(text: str) -> str:
    """For the title, which can't have markup in it.

    >>> shown_plainly("</title>\\x00")
    '&lt;/title&gt;?'
    """
    return shown("".join(char if char.isprintable() else "?" for char in text))


def code(text: str) -> str:
    """A name, key or command: in the fixed-width font, and apart from the direction of the text around it."""
    return f"<code>{_cut([text])}</code>"


def value(evidence: object) -> str:
    """A value of evidence: text as it is, everything else as JSON."""
    if isinstance(evidence, str):
        return code(evidence)
    text = json.dumps(evidence, ensure_ascii=False, default=str)
    if len(text) > LINE_CHARS_MAX:
        text = json.dumps(evidence, ensure_ascii=False, default=str, indent=2)
    lines = text.split("\n")  # those of the layout: JSON has none within a text
    return f"<code>{_cut(lines)}</code>"


def _cut(lines: list[str]) -> str:
    """Lines of our own making; what is in them is foreign."""
    room, kept = VALUE_CHARS_MAX, []
    for line in lines:
        if room <= 0:
            break
        kept.append(shown(line[:room]))
        room -= len(line)
    left = sum(map(len, lines)) - VALUE_CHARS_MAX
    return "\n".join(kept) + (f' <span class="more">and {left:,} more characters</span>' if left > 0 else "")


def number(count: int, noun: str) -> str:
    """A count and its noun.

    >>> number(1, "finding"), number(2_000, "batch")
    ('1 finding', '2,000 batches')
    """
    ending = "" if count == 1 else "es" if noun.endswith("h") else "s"
    return f"{count:,} {noun}{ending}"


def more(count: int, what: str) -> str:
    """What the page leaves out, and where it is; nothing where it leaves nothing out."""
    if count <= 0:
        return ""
    return f'<p class="more">and {count:,} more {escape(what)}: <code>--format jsonl=report.jsonl</code> has all</p>'
