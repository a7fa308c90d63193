"""What is submitted in a run: records drawn from the seed and the number of the submission, at most so many.

Few ids, so that submissions have records in common. A text names its record, so a vector under another id shows.
"""

from __future__ import annotations

from typing import Final

from embedpipe.model import Metadata, Record
from simulator.chance import fraction, number, pick

__all__ = ["ODD_IDS", "few", "flipped", "numbered", "odd", "one"]

TEXTS: Final = ("one", "two")
ODD_IDS: Final = (
    *("r0", "R0", "r0 ", " r1", "r1\n", "../r1", "r/2", '"r2"', "\u00e9", "e\u0301", "\U0001f600", "custom_id"),
    "x" * 512,
)
"""[ours] What differs in case, in a space or in its Unicode form only, what looks like a path, and the longest."""
LONG: Final = 300
"""[ours] Words of a long text: more than a careless limit lets through."""


def few(seed: int, submission: int, most: int) -> list[Record]:
    """Some texts change from one submission to the next."""
    count = 1 + number(seed, "count", submission) % most
    drawn = (number(seed, "id", submission, at) % (most + 1) for at in range(count))
    return _with_texts(seed, submission, sorted({f"r{which}" for which in drawn}))


def numbered(seed: int, submission: int, most: int) -> list[Record]:
    """As many as may be."""
    return _with_texts(seed, submission, [f"r{at:05d}" for at in range(most)])


def _with_texts(seed: int, submission: int, names: list[str]) -> list[Record]:
    return [Record(id=name, text=f"{name} {pick(TEXTS, seed, 'text', submission, name)}") for name in names]


def one(seed: int, submission: int, most: int) -> list[Record]:  # noqa: ARG001  it is the same in every run
    """The same record each time, with another text than before."""
    return [Record(id="r0", text=TEXTS[submission % 2])]


def flipped(seed: int, submission: int, most: int) -> list[Record]:
    """Most of them each time; seven in eight have another text than the time before."""
    names = [f"r{at}" for at in range(most)]
    named = [name for name in names if fraction(seed, "left out", submission, name) >= 0.25] or names[:1]
    same = {name: fraction(seed, "same", submission, name) < 0.125 for name in named}
    return [Record(id=name, text=f"{name} {TEXTS[(submission + same[name]) % 2]}") for name in named]


def odd(seed: int, submission: int, most: int) -> list[Record]:
    """Ids that are easily confused, texts that are long, and metadata that may change while the text does not."""
    offset = number(seed, "odd ids") % len(ODD_IDS)
    names = [ODD_IDS[(offset + at) % len(ODD_IDS)] for at in range(most)]
    named = [name for name in names if fraction(seed, "left out", submission, name) >= 0.25] or names[:1]
    return [_odd_record(seed, submission, name) for name in named]


def _odd_record(seed: int, submission: int, name: str) -> Record:
    words = LONG if fraction(seed, "long", name) < 0.25 else 1
    text = f"{name} " + " ".join([pick(TEXTS, seed, "text", submission, name)] * words)
    said: Metadata = {"page": number(seed, "page", submission, name) % 2, "by": f"{name[:20]}'s"}
    return Record(id=name, text=text, metadata=said if fraction(seed, "said", name) < 0.75 else {})
