"""What an audit will call, and what that costs, said before it reads batch by batch.

It is made from the enumeration, which has listed every batch by then and is the small part of an audit: what each batch needs
is known from what names it. A healthy root makes these calls to within a few per cent; what is found wrong is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from embedpipe.lifecycle import OPEN, TERMINAL_ACTIONS
from embedpipe.limits import BATCH_GET_KEYS_MAX
from verify.audit.checks import Depth
from verify.audit.checks.provider import has_ended
from verify.audit.entries import Entry, Indexed, Listed, Polled, Provided, only
from verify.audit.rows import block_size, blocks

__all__ = ["PRICES", "PRICES_AS_OF", "Estimate", "calls_of_batches", "calls_of_collection"]

PRICES_AS_OF: Final = "2025-11"
PRICES: Final[Mapping[str, float]] = {
    "objects.get": 0.40 / 1e6,  # S3 Standard, GET
    "objects.list": 5.00 / 1e6,  # S3 Standard, LIST
    "table.get_many": 100 * 0.125 / 1e6,  # DynamoDB on demand: a consistent read of 100 items below 4 KB
    "table.by_status": 128 * 0.125 / 1e6,  # a page of 1 MB from an index, eventually consistent
}
"""[aws] US dollars of one call at list prices of us-east-1, as of `PRICES_AS_OF`; traffic within the region is free. Reading
execution history, logs' events and the provider's batches costs nothing."""

OPEN_WORDS: Final = frozenset(str(status) for status in OPEN)
TERMINAL_WORDS: Final = frozenset(str(action) for action in TERMINAL_ACTIONS)


@attrs.frozen(kw_only=True)
class Estimate:
    """What an audit calls in all, and how much of it was called already to know that."""

    depth: str
    batches: int
    calls: Mapping[str, int]
    """Kind -> calls of the whole audit."""
    made: Mapping[str, int]
    """Kind -> calls that were made to find the batches."""
    prices: Mapping[str, float] = attrs.field(factory=dict)

    @property
    def dollars(self) -> float:
        """At list prices; nothing for local stores."""
        return sum(count * self.prices.get(kind, 0.0) for kind, count in self.calls.items())

    @property
    def text(self) -> str:
        """In one line."""
        calls = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.calls.items()) if count)
        money = f"about ${self.dollars:.4f} at list prices of {PRICES_AS_OF}" if self.prices else "at no charge"
        return f"{self.batches:,} batches at depth {self.depth}: {calls}; {money}"


def calls_of_batches(
    groups: Iterable[tuple[tuple[Entry, ...], bool]], depth: Depth, *, provider: bool, limited: bool = False
) -> tuple[int, Mapping[str, int]]:
    """How many batches there are, and the calls of reading them; each is given as what names it, and whether it was
    checked before an interruption.

    `limited`: of those that no execution in scope has listed, nothing but the row is read.
    """
    found: Counter[str] = Counter()
    count = ended = 0
    for block in blocks(groups, block_size(content=depth.reads_content)):
        count += len(block)
        retries = sum(_has_retry(entries) for entries, _ in block)
        found["table.get_many"] += _pages(len(block)) + _pages(retries)
        for entries, done in block:
            ended += sum(has_ended(entry.status) for entry in only(entries, Provided))
            beyond = limited and not only(entries, Listed) and not only(entries, Polled)
            if depth.reads_content and not done and not beyond:
                found["objects.get"] += _objects(entries)
                found["provider.content"] += _files(entries) if provider else 0
    found["table.get_many"] += _pages(ended) if provider else 0
    return count, found


def calls_of_collection(versions: int, depth: Depth) -> Mapping[str, int]:
    """Of one collection with so many published versions: journal, pointer, lineage and catalog, each read twice."""
    if not versions:
        return {"objects.get": 2 * 2}
    content = depth.reads_content
    return {"objects.get": 2 * (2 + versions + content), "objects.list": 2 * (not content)}


def _pages(count: int) -> int:
    return -(-count // BATCH_GET_KEYS_MAX)


def _has_retry(entries: tuple[Entry, ...]) -> bool:
    return any(entry.facts.get("retry_count") for entry in _terminal(entries))


def _terminal(entries: tuple[Entry, ...]) -> Iterator[Polled]:
    return (entry for entry in only(entries, Polled) if entry.action in TERMINAL_WORDS)


def _objects(entries: tuple[Entry, ...]) -> int:
    """Register and records of a batch; of its delta `delta.json` and three files."""
    polled = list(_terminal(entries))
    of_seed = any(entry.schema is None for entry in polled)
    open_still = not polled and any(entry.status in OPEN_WORDS for entry in only(entries, Indexed))
    has_delta = any(entry.facts.get("delta_key") for entry in polled) if polled else not open_still
    return 1 + (not of_seed) + 4 * has_delta


def _files(entries: tuple[Entry, ...]) -> int:
    ended = (entry for entry in only(entries, Provided) if has_ended(entry.status))
    return sum(bool(entry.output_file_id) + bool(entry.error_file_id) for entry in ended)
