"""A whole `run` on one machine: how much of its CPU is spent outside the model and Chroma.

Calls of the two are timed where they are made, in one thread, so that what they start counts as theirs.

    python -m benchmarks.whole
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.measure import WORDS, Figure, cpu_s
from embedpipe import Kind, Pipeline, Record
from embedpipe.backends import chroma_client
from embedpipe.backends.wordllama_model import WordLlamaModel
from embedpipe.config import Config


class Meter:
    """CPU seconds inside some functions, the outermost call counting."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = {}
        self._inside = False

    @contextmanager
    def on(self, owner: Any, name: str, account: str) -> Iterator[None]:
        """Time every call of `owner.name` while the block runs."""
        before = getattr(owner, name)
        setattr(owner, name, self._timed(before, account))
        try:
            yield
        finally:
            setattr(owner, name, before)

    def _timed(self, function: Callable[..., Any], account: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside = True
            start_s = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                self.spent_s[account] = self.spent_s.get(account, 0.0) + time.process_time() - start_s

        return timed


def records(count: int) -> Iterator[Record]:
    """Distinct lines of about 60 characters."""
    rng = random.Random(0)
    for at in range(count):
        yield Record(id=f"article-{at:08d}", text=" ".join(rng.choices(WORDS, k=11)) + f" {at}")


def run(count: int = 50_000) -> list[Figure]:
    """The share of everything that is neither model nor Chroma."""
    from chromadb.api.models.Collection import Collection

    meter = Meter()
    given = list(records(count))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        config = Config.load(Path(name))
        config = attrs.evolve(config, run=attrs.evolve(config.run, threads=1))
        pipe = stack.enter_context(Pipeline.open(config.root, kind=Kind("bench"), config=config))
        pipe.submit([Record(id="warm", text="imports and the model's weights")])
        pipe.run()
        for owner, names, account in (
            (WordLlamaModel, ("tokens", "vectors"), "model"),
            (Collection, ("upsert", "get", "count", "query", "delete"), "Chroma"),
            (chroma_client, ("_open",), "Chroma"),
        ):
            for method in names:
                stack.enter_context(meter.on(owner, method, account))
        total_s = cpu_s(lambda: pipe.run(given))
    outside_s = total_s - sum(meter.spent_s.values())
    parts = ", ".join(f"{account} {spent_s:.1f} s" for account, spent_s in meter.spent_s.items())
    note = f"{parts}, the rest {outside_s:.1f} s"
    return [
        Figure(
            f"run of {count:,} records: share outside model and Chroma",
            100 * outside_s / total_s,
            15,
            unit="%",
            note=note,
        )
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
