"""Admission, decided: which of the batches that wait may be created now, so that a big submission waits in line at home.

The provider counts the tokens of all open batches and the creates of a while, and refuses what is too much; a batch refused
there costs a turn of its queue. The rule: first come, first served, and nobody is overtaken, so that a big batch is not starved
by small ones; where nothing is open one is always let through, so that none waits for ever. It is a courtesy: two
executions at once may together let too many through, and the provider's refusal then counts as capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs

from embedpipe.limits import BYTES_PER_TOKEN_MIN, Limits

WINDOW_S: Final = 60.0
LINE_FRAME_BYTES: Final = 90
"""[ours] Bytes of a request line that are no text of its record, at least."""


@attrs.frozen(kw_only=True)
class Load:
    """One batch, as far as it weighs."""

    batch_id: str
    tokens_max: int
    """Upper bound of its tokens."""
    creating_at: datetime | None = None
    """When it was created; None while it waits."""


def tokens_max(file_bytes: int, requests: int) -> int:
    """Upper bound of the tokens of an input file, from its size: a token has one byte at least.

    >>> tokens_max(1_000, 10), tokens_max(100, 10)
    (100, 10)
    """
    return max(requests, (file_bytes - requests * LINE_FRAME_BYTES) // BYTES_PER_TOKEN_MIN)


def is_limited(limits: Limits) -> bool:
    """Whether there is anything to decide."""
    return bool(limits.enqueued_tokens or limits.creates_per_minute)


def admitted(waiting: Sequence[Load], open_: Iterable[Load], now: datetime, limits: Limits) -> tuple[str, ...]:
    """The `batch_id`s that may be created now: as many of `waiting`, from its start, as fit beside the open ones."""
    there = list(open_)
    tokens = sum(load.tokens_max for load in there)
    creates = sum(_is_recent(load.creating_at, now) for load in there)
    chosen: list[str] = []
    for load in waiting:
        tokens += load.tokens_max
        creates += 1
        alone = not there and not chosen
        if limits.creates_per_minute and creates > limits.creates_per_minute:
            break
        if limits.enqueued_tokens and tokens > limits.enqueued_tokens and not alone:
            break
        chosen.append(load.batch_id)
    return tuple(chosen)


def _is_recent(at: datetime | None, now: datetime) -> bool:
    """Within the window, whichever clock is ahead."""
    return at is not None and abs(now - at) < timedelta(seconds=WINDOW_S)
