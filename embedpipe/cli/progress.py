"""Progress on stderr, fed only by events: bars on a terminal, a line now and then elsewhere.

`Tally` folds events into counts and is all that the two displays share.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from embedpipe.cli.app import printable
from embedpipe.events import (
    AmbiguousCreate,
    BatchCreated,
    BatchLost,
    BatchPolled,
    CreateRefused,
    DeltaLeftOut,
    FilesNotDeleted,
    ItemFailed,
    OnEvent,
    Published,
    RecordsRead,
    ResultUnreadable,
    RowsMerged,
    RowUnreadable,
    RunEvent,
    StepStarted,
    Submitted,
    ignore,
)
from embedpipe.lifecycle import TERMINAL_ACTIONS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

HEARTBEAT_S: Final = 10.0  # between two lines where there is no terminal


@attrs.define
class Tally:
    """What has happened so far."""

    step: str = ""
    read: int = 0
    submitted: int = 0
    batches: int = 0
    created: int = 0
    ended: dict[str, BatchPolled] = attrs.field(factory=dict)
    """The last word on each batch: one may be polled again after it has ended."""
    merged: int = 0
    to_merge: int = 0

    @property
    def answered(self) -> int:
        """Records that the provider is done with."""
        return sum(event.vectors + event.rejected + event.retry for event in self.ended.values())

    @property
    def vectors(self) -> int:
        """Vectors among them: what there is to merge, as far as is known."""
        return sum(event.vectors for event in self.ended.values())

    def add(self, event: RunEvent) -> str:
        """Take in one event; return a sentence when a person should read about it at once."""
        if isinstance(event, StepStarted):
            self.step = event.step
        elif isinstance(event, RecordsRead):
            self.read = event.records
        elif isinstance(event, Submitted):
            self.submitted += event.records - event.skipped
            self.batches += event.batches
        elif isinstance(event, BatchCreated):
            self.created += 1
        elif isinstance(event, BatchPolled):
            if event.action in TERMINAL_ACTIONS:
                self.ended[event.batch_id] = event
        elif isinstance(event, RowsMerged):
            self.merged, self.to_merge = event.rows, max(event.total, self.vectors)
        return _sentence(event)

    def line(self) -> str:
        """All of it in one line."""
        parts = [f"{self.read:,} read", f"{self.submitted:,} submitted in {self.batches:,} batches"]
        parts += [f"{self.created:,} batches created", f"{len(self.ended):,} ended with {self.answered:,} records"]
        if self.to_merge:
            parts.append(f"{self.merged:,} of {self.to_merge:,} merged")
        return ", ".join(parts) + (f" ({self.step})" if self.step else "")


_SENTENCES: Final[Mapping[type[RunEvent], Callable[[Any], str]]] = {
    ItemFailed: lambda e: f"{e.step}: item {e.index} failed and will be tried again: {e.error}",
    CreateRefused: lambda e: f"batch {e.batch_id}: refused for now ({e.reason}); it will be tried again",
    AmbiguousCreate: lambda e: (
        f"batch {e.batch_id}: its create had no answer, "
        + ("counts as lost and its records go again" if e.lost else "may exist; searching for it")
    ),
    BatchLost: lambda e: f"batch {e.batch_id}: the provider lost {e.provider_batch_id}; its records go again",
    RowUnreadable: lambda e: f"batch {e.batch_id}: its row can't be read and is left alone: {e.error}",
    ResultUnreadable: lambda e: f"batch {e.batch_id}: nothing is known of it, it is polled again: {e.reason}",
    DeltaLeftOut: lambda e: f"batch {e.batch_id}: its vectors are not merged for now: {e.reason}",
    FilesNotDeleted: lambda e: f"batch {e.batch_id}: its files stay with the provider: {e.error}",
    Published: lambda e: f"published {e.version} with {e.count:,} records",
}
"""What a person should read about at once."""


def _sentence(event: RunEvent) -> str:
    say = _SENTENCES.get(type(event))
    return say(event) if say else ""


@contextmanager
def reporting(*, quiet: bool, monotonic_s: Callable[[], float]) -> Iterator[OnEvent]:
    """Yield the callback for `on_event`; it may be called from several threads."""
    if quiet or sys.stderr is None:
        yield ignore
    elif sys.stderr.isatty():
        with _bars() as on_event:
            yield on_event
    else:
        yield _lines(monotonic_s)


def _lines(monotonic_s: Callable[[], float]) -> OnEvent:
    tally, lock = Tally(), threading.Lock()
    last_s = monotonic_s()

    def on_event(event: RunEvent) -> None:
        nonlocal last_s
        with lock:
            sentence = tally.add(event)
            if sentence:
                _say(sentence)
            if monotonic_s() - last_s >= HEARTBEAT_S:
                last_s = monotonic_s()
                _say(tally.line())

    return on_event


def _say(text: str) -> None:
    """A line on stderr. Nobody reading it is no reason to stop the work that it is about."""
    with suppress(OSError):
        click.echo(printable(text), err=True)


@contextmanager
def _bars() -> Iterator[OnEvent]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    display = Progress(*columns, console=Console(stderr=True, highlight=False), transient=True)
    tally, lock = Tally(), threading.Lock()
    update = _updater(display, tally)

    def on_event(event: RunEvent) -> None:
        with lock:
            sentence = tally.add(event)
            if sentence and not isinstance(event, Published):
                display.console.print(Text(printable(sentence)))
            update()

    with display:
        yield on_event


def _updater(display: Progress, tally: Tally) -> Callable[[], None]:
    """A function that brings the bars up to date; each appears when there is something to show."""
    bars: dict[str, TaskID] = {}

    def show(name: str, completed: int, total: int | None) -> None:
        if completed or total:
            if name not in bars:
                bars[name] = display.add_task(name, total=None)
            display.update(bars[name], completed=completed, total=total)

    def update() -> None:
        show("read", tally.read, tally.read if tally.submitted else None)
        show("embedded", tally.answered, max(tally.submitted, tally.answered))
        show("merged", tally.merged, tally.to_merge)

    return update
