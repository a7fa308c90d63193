"""Records by the column: what files give and what planning takes, without a `Record` for each line.

A million `Record`s cost more than all the rest of planning them. The rule kept here: a checked block holds what `Record`
accepts and nothing else; where a column looks odd, Records are made of it, and the first wrong one raises its own error.
Nothing here knows of files or Arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import attrs

from embedpipe.limits import RECORD_ID_BYTES_MAX, UTF8_BYTES_MAX
from embedpipe.model import Metadata, Record, place

BLOCK_RECORDS: Final = 1_000
"""[ours] Records of a plain iterable that are gathered into one block."""
BLOCK_TEXT_CHARS: Final = 1 << 20
"""[ours] Or this much text, whichever comes first."""


@attrs.frozen(kw_only=True, eq=False)
class RecordBlock:
    """Some records, column by column; all columns have one length."""

    ids: Sequence[str]
    texts: Sequence[str]
    metadatas: Sequence[Metadata]
    sources: Sequence[str]
    """Where each came from: the file, or the whole `source` of a Record."""
    lines: Sequence[int]
    """Numbers in that file, from 1; 0 where the source says all."""

    @classmethod
    def of(cls, records: Sequence[Record]) -> RecordBlock:
        """The columns of these records."""
        return cls(
            ids=[record.id for record in records],
            texts=[record.text for record in records],
            metadatas=[record.metadata for record in records],
            sources=[record.source for record in records],
            lines=[0] * len(records),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Record]:
        columns = zip(self.ids, self.texts, self.metadatas, self.sources, self.lines, strict=True)
        for record_id, text, metadata, source, line in columns:
            yield Record(id=record_id, text=text, metadata=metadata, source=place(source, line))

    def checked(self) -> RecordBlock:
        """The same block; raises what `Record` raises for the first record that it refuses."""
        if not self._is_plain():
            for _ in self:
                pass
        return self

    def _is_plain(self) -> bool:
        """Whether `Record` surely accepts every row. Columns are looked at whole, by functions that loop in C."""
        if any(self.metadatas) or not all(self.ids) or not all(map(str.strip, self.texts)):
            return False
        if max(map(len, self.ids), default=0) * UTF8_BYTES_MAX > RECORD_ID_BYTES_MAX:
            return False
        return _is_unicode(self.ids) and _is_unicode(self.texts)


class RecordStream(Iterator[Record]):
    """An iterator of records that can also be taken block by block."""

    def __init__(self, blocks: Iterator[RecordBlock]) -> None:
        self._blocks = blocks
        self._records = chain.from_iterable(blocks)

    def __next__(self) -> Record:
        return next(self._records)

    def blocks(self) -> Iterator[RecordBlock]:
        """The blocks that iteration has not begun; use either this or iteration."""
        return self._blocks


def _is_unicode(texts: Sequence[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def blocks_of(records: Iterable[Record]) -> Iterator[RecordBlock]:
    """Any records as blocks of bounded size. The blocks of a `RecordStream` are its own.

    >>> [len(block) for block in blocks_of([Record(id="a", text="x"), Record(id="b", text="y")])]
    [2]
    """
    return records.blocks() if isinstance(records, RecordStream) else _gathered(records)


def _gathered(records: Iterable[Record]) -> Iterator[RecordBlock]:
    held: list[Record] = []
    chars = 0
    for record in records:
        held.append(record)
        chars += len(record.text)
        if len(held) >= BLOCK_RECORDS or chars >= BLOCK_TEXT_CHARS:
            yield RecordBlock.of(held)
            held, chars = [], 0
    if held:
        yield RecordBlock.of(held)
