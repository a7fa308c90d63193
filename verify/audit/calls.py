"""Counting what an audit calls, and repeating what fails for load: the one place where both are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

import attrs

from embedpipe import retry
from embedpipe.errors import Transient
from embedpipe.limits import LIST_PAGE_KEYS, PROVIDER_LIST_PAGE
from embedpipe.ports import Clock
from embedpipe.retry import RetryPolicy

__all__ = ["Calls"]

T = TypeVar("T")

ITEMS_PAGE: Final = 2_000
"""[ours] Index entries of about 500 bytes in a query's page of 1 MB."""
PAGES: Final[Mapping[str, int]] = {
    "objects.list": LIST_PAGE_KEYS,
    "table.by_status": ITEMS_PAGE,
    "provider.list": PROVIDER_LIST_PAGE,
}
"""Values of one call of each listing."""


@attrs.define(kw_only=True)
class Calls:
    """How often each kind of read was made, and how reads are repeated."""

    clock: Clock
    policy: RetryPolicy = attrs.field(factory=RetryPolicy)
    counts: Counter[str] = attrs.field(factory=Counter)

    def make(self, name: str, read: Callable[[], T], *, times: int = 1) -> T:
        """One call, or the `times` that a service makes of it, repeated while it fails for load."""
        self.counts[name] += times
        return retry.call(read, self.policy, self.clock)

    def pages(self, name: str, start: Callable[[str | None], Iterator[T]], key: Callable[[T], str]) -> Iterator[T]:
        """All of an iterator, which is begun again after the last value where a page fails for load."""
        last: str | None = None
        waits = self.policy.delays()
        page = PAGES[name]
        while True:
            self.counts[name] += 1
            try:
                for number, value in enumerate(start(last), 1):
                    last = key(value)
                    waits = self.policy.delays()
                    yield value
                    self.counts[name] += number % page == 0
                return
            except Transient:
                delay_s = next(waits, None)
                if delay_s is None:
                    raise
                self.clock.sleep(delay_s)
