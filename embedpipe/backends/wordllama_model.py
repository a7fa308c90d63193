"""The embedding model that ships inside the `wordllama` wheel: texts to unit vectors, offline.

256 dimensions, of which the first 64 or 128 can be used alone. A text is the mean of its tokens' vectors, so the same text
has the same vector to the bit, whatever is computed beside it. Never downloads; memory is bounded by blocks of tokens.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from embedpipe.errors import ConfigError, InvalidInput, missing_extra

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

MODEL_NAME: Final = "wordllama-l2-256"
DIMENSIONS: Final = (64, 128, 256)
TOKENS_PER_BLOCK: Final = 16_384
"""Token vectors held at a time: 16 MB."""


class WordLlamaModel:
    """Loads its 16 MB of weights when first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any, int] | None = None

    def tokens(self, texts: Sequence[str]) -> list[Any]:
        """Token numbers of each text: a list of lists."""
        tokenizer, _, _ = self._load()
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def certainly_longer_than(self, text: str, tokens: int) -> bool:
        """Whether the text has more tokens than that whatever they are, which is told from its length alone."""
        return len(text) > tokens * self._load()[2]

    def vectors(self, tokens: Sequence[Sequence[int]], dimensions: int) -> Vectors:
        """Unit vectors: shape (len(tokens), dimensions), float32; all zeros where there are no tokens."""
        import numpy as np

        table = self._load()[1]
        out: Vectors = np.zeros((len(tokens), dimensions), np.float32)
        for part in _blocks(tokens):
            counts = np.fromiter((len(tokens[at]) for at in part), np.int64, len(part))
            flat = np.fromiter(itertools.chain.from_iterable(tokens[at] for at in part), np.int64, int(counts.sum()))
            sums = np.add.reduceat(table[flat], np.cumsum(counts) - counts, axis=0)[:, :dimensions]
            out[part] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return out

    def _load(self) -> tuple[Any, Any, int]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load()
            return self._loaded


def check_dimensions(dimensions: int) -> int:
    """`InvalidInput` where the model cannot give vectors of that length."""
    if dimensions not in DIMENSIONS:
        raise InvalidInput(f"{MODEL_NAME} has no vectors of {dimensions} dimensions.", hint=f"Use one of {DIMENSIONS}.")
    return dimensions


def check_settings(dimensions: int, *, sent: bool) -> None:
    """`ConfigError` where no vector of this length would ever come, `sent` telling whether requests ask for a length."""
    if dimensions not in DIMENSIONS:
        *most, last = map(str, DIMENSIONS)
        raise ConfigError(
            f"{MODEL_NAME} gives vectors of {', '.join(most)} or {last} numbers, not {dimensions}.",
            hint="Set provider.dimensions to one of these.",
        )
    if not sent and dimensions != DIMENSIONS[-1]:
        raise ConfigError(
            f"{MODEL_NAME} gives vectors of {DIMENSIONS[-1]} numbers to requests that do not say how many, "
            f"not {dimensions}.",
            hint="Set provider.send_dimensions = true.",
        )


def _blocks(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Positions of non-empty texts, in blocks of about `TOKENS_PER_BLOCK` tokens, one text at least."""
    block: list[int] = []
    size = 0
    for at, numbers in enumerate(tokens):
        if not numbers:
            continue
        if block and size + len(numbers) > TOKENS_PER_BLOCK:
            yield block
            block, size = [], 0
        block.append(at)
        size += len(numbers)
    if block:
        yield block


def _load() -> tuple[Any, Any, int]:
    try:
        with _root_logger_kept():
            import wordllama
    except ImportError as error:
        raise missing_extra("local", error.name or "wordllama") from None
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    # Padding would make one long text cost as much as a whole block of them.
    model.tokenizer.no_padding()
    return model.tokenizer, model.embedding, max(map(len, model.tokenizer.get_vocab()))


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """wordllama configures the root logger when imported, which is the application's business."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
