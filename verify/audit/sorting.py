"""External sort of small entries by a text key: what comes in any order leaves grouped by key, in bounded memory.

The rule kept here: memory is one run, whatever the count. Up to one run nothing is written to disk.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from embedpipe.errors import full_disk

RUN_ENTRIES: Final = 50_000
"""[ours] Entries sorted in memory at once: about 15 MB."""
FAN_IN: Final = 64
"""[ours] Runs merged at once; bounds open files."""

_HEAD: Final = struct.Struct("<II")
_FIRST: Final = itemgetter(0)

Pair = tuple[str, bytes]


class Sorter:
    """Pairs of key and payload, added in any order and read in the order of keys. For one thread; `folder` outlives it."""

    def __init__(self, folder: Path, name: str, *, run_entries: int = RUN_ENTRIES) -> None:
        self._folder = folder
        self._name = name
        self._run_entries = run_entries
        self._held: list[Pair] = []
        self._runs: list[Path] = []
        self._made = 0
        self._open = ExitStack()
        self.count = 0

    def add(self, key: str, payload: bytes) -> None:
        """One more pair. `StorageFull`."""
        self._held.append((key, payload))
        self.count += 1
        if len(self._held) >= self._run_entries:
            self._spill()

    def groups(self) -> Iterator[tuple[str, list[bytes]]]:
        """Each key once, ascending, with all its payloads; may be read again."""
        return ((key, [payload for _, payload in pairs]) for key, pairs in groupby(self._sorted(), key=_FIRST))

    def _sorted(self) -> Iterator[Pair]:
        while len(self._runs) > FAN_IN:
            merged, self._runs = self._runs[:FAN_IN], self._runs[FAN_IN:]
            self._write(heapq.merge(*map(self._read, merged)))
            for path in merged:
                path.unlink()
        self._held.sort()
        return heapq.merge(*map(self._read, self._runs), self._held) if self._runs else iter(self._held)

    def _spill(self) -> None:
        self._held.sort()
        self._write(self._held)
        self._held = []

    def _write(self, pairs: Iterable[Pair]) -> None:
        self._made += 1
        path = self._folder / f"{self._name}-{self._made:06d}.run"
        with full_disk(str(path)), path.open("wb") as file:
            for key, payload in pairs:
                encoded = key.encode(errors="surrogatepass")
                file.write(_HEAD.pack(len(encoded), len(payload)))
                file.write(encoded)
                file.write(payload)
        self._runs.append(path)

    def _read(self, path: Path) -> Iterator[Pair]:
        file: IO[bytes] = self._open.enter_context(path.open("rb"))
        while head := file.read(_HEAD.size):
            key_bytes, payload_bytes = _HEAD.unpack(head)
            yield file.read(key_bytes).decode(errors="surrogatepass"), file.read(payload_bytes)

    def close(self) -> None:
        """Remove the runs; quiet when called twice."""
        self._open.close()
        for path in self._runs:
            path.unlink(missing_ok=True)
        self._runs, self._held = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
