"""Progress and interruption: what events become, and that a display never disturbs the output."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from embedpipe import events
from embedpipe.cli import progress
from embedpipe.cli.interrupt import stoppable
from embedpipe.cli.progress import HEARTBEAT_S, Tally, reporting
from embedpipe.model import Record

EXECUTION = "e-1"
ALL_EVENTS: list[events.RunEvent] = [
    events.RecordsRead(execution_id=EXECUTION, records=1_500),
    events.Submitted(execution_id=EXECUTION, seq=1, batches=2, records=1_500, skipped=500),
    events.BatchCreated(execution_id=EXECUTION, batch_id="b1", provider_batch_id="p1"),
    events.CreateRefused(execution_id=EXECUTION, batch_id="b2", reason="insufficient_quota"),
    events.AmbiguousCreate(execution_id=EXECUTION, batch_id="b2"),
    events.AmbiguousCreate(execution_id=EXECUTION, batch_id="b2", lost=True),
    events.StepStarted(execution_id=EXECUTION, step="poll", items=2),
    events.BatchPolled(execution_id=EXECUTION, batch_id="b2", provider_status="in_progress", action="wait"),
    *[
        events.BatchPolled(
            execution_id=EXECUTION,
            batch_id="b1",
            provider_status="completed",
            action="process_results",
            vectors=490,
            rejected=7,
            retry=3,
        )
    ]
    * 2,
    events.StepFinished(execution_id=EXECUTION, step="poll", index=0),
    events.ItemFailed(execution_id=EXECUTION, step="poll", index=1, error="bad \x1b[31m[bold]"),
    events.RowsMerged(execution_id=EXECUTION, rows=100, total=150),
    events.Published(execution_id=EXECUTION, version="1-ab", count=490),
    events.MarkedComplete(
        execution_id=EXECUTION, extracted=1, eligible=1, batches_marked=1, already_complete=0, skipped=0, missing=0
    ),
]


def test_the_tally_counts_each_batch_once() -> None:
    tally = Tally()
    for event in ALL_EVENTS:
        tally.add(event)
    assert tally.line() == (
        "1,500 read, 1,000 submitted in 2 batches, 1 batches created, 1 ended with 500 records, "
        "100 of 490 merged (poll)"
    )


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    times = count(0.0, HEARTBEAT_S / 4)
    with reporting(quiet=False, monotonic_s=lambda: next(times)) as on_event:
        for event in ALL_EVENTS:
            on_event(event)
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert "batch b2: refused for now (insufficient_quota); it will be tried again" in lines
    assert "batch b2: its create had no answer, may exist; searching for it" in lines
    assert "batch b2: its create had no answer, counts as lost and its records go again" in lines
    assert "poll: item 1 failed and will be tried again: bad \\x1b[31m[bold]" in lines
    assert "published 1-ab with 490 records" in lines
    heartbeats = [line for line in lines if " read, " in line]
    assert 1 < len(heartbeats) < len(ALL_EVENTS)


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(quiet=True, monotonic_s=lambda: 0.0) as on_event:
        for event in ALL_EVENTS:
            on_event(event)
    assert capsys.readouterr().err == ""


def test_bars_take_all_events_from_many_threads(capsys: pytest.CaptureFixture[str]) -> None:
    with progress._bars() as on_event:
        threads = [threading.Thread(target=lambda: [on_event(event) for event in ALL_EVENTS]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shown = capsys.readouterr().err
    assert "\x1b[31m[bold]" not in shown
    assert "bad \\x1b[31m[bold]" in shown


def test_on_a_terminal_bars_are_shown_on_stderr_only(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one\ntwo\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "embedpipe", "run", "x.txt", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs) as running:
        os.close(theirs)
        shown = b"".join(_chunks(ours))
        assert running.stdout is not None
        document = running.stdout.read()
    assert running.returncode == 0
    assert document.startswith(b"{")
    assert b"embedded" in shown


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 4096)
        except OSError:  # the other side is gone
            break
        if not chunk:
            break
        yield chunk
    os.close(descriptor)


def test_the_first_signal_asks_and_the_handlers_come_back() -> None:
    asked: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    with stoppable(lambda: asked.append(True)):
        signal.raise_signal(signal.SIGINT)
        assert asked == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_while_reading_a_signal_interrupts() -> None:
    read: list[int] = []
    asked: list[bool] = []

    def records() -> Iterator[Record]:
        for number in range(10):
            if number == 3:
                signal.raise_signal(signal.SIGTERM)
            read.append(number)
            yield Record(id=str(number), text="x")

    with stoppable(lambda: asked.append(True)) as stopper, pytest.raises(KeyboardInterrupt):
        list(stopper.reading(records()))
    assert (read, asked) == ([0, 1, 2], [])


def test_in_another_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    records = [Record(id=name, text="x") for name in "ab"]
    seen: list[object] = []

    def work() -> None:
        with stoppable(lambda: None) as stopper:
            seen.extend([signal.getsignal(signal.SIGINT), *stopper.reading(records)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, *records]


def test_the_second_signal_ends_at_once() -> None:
    code = (
        "import signal\n"
        "from embedpipe.cli.interrupt import stoppable\n"
        "with stoppable(lambda: print('asked', flush=True)):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('never')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "asked\n")
    assert "Press Ctrl-C again" in ended.stderr
