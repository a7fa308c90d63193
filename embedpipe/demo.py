"""Real text that every Python ships, for `make demo`: the language reference, as lines and as words in context.

The records are the same each time for one version of Python, so a second run finds them all embedded.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from embedpipe.model import Record

__all__ = ["QUESTIONS", "ROOT", "line_records", "word_records"]

ROOT: Final = Path(".embedpipe-demo")
QUESTIONS: Final = (
    "how do I handle an exception?",
    "which values count as false?",
    "how can a function take any number of arguments?",
)
WORDS_MAX: Final = 3_000  # of about 60,000: enough for a collection of its own, and quick
_WORDS_STEP: Final = 12  # one word in so many, so that they come from all topics
_NEIGHBOURS: Final = 4  # words of context on each side
_LETTERS_MIN: Final = 4  # shorter words say little


def line_records() -> Iterator[Record]:
    """Each non-empty line: id `topic:line`, the line's number from 1."""
    for topic, number, line in _lines():
        yield Record(id=f"{topic}:{number}", text=line, metadata={"topic": topic, "line": number})


def word_records() -> Iterator[Record]:
    """Some words of the same lines, in brackets among their neighbours: id `topic:line:word`, counted from 1."""
    return islice(islice(_words(), 0, None, _WORDS_STEP), WORDS_MAX)


def _lines() -> Iterator[tuple[str, int, str]]:
    from pydoc_data.topics import topics

    for topic, text in topics.items():
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield topic, number, line.strip()


def _words() -> Iterator[Record]:
    for topic, number, line in _lines():
        words = line.split()
        for index, word in enumerate(words):
            if sum(map(str.isalpha, word)) >= _LETTERS_MIN:
                before = words[max(0, index - _NEIGHBOURS) : index]
                after = words[index + 1 : index + 1 + _NEIGHBOURS]
                text = " ".join([*before, f"[{word}]", *after])
                yield Record(id=f"{topic}:{number}:{index + 1}", text=text, metadata={"topic": topic, "line": number})
