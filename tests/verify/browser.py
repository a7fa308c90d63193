"""Debian's Chromium without a window, driven over a pair of pipes: its DevTools protocol is JSON with a NUL after each message.

Needs no package and no port. One browser serves a whole module; each page is a new target.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

CHROMIUM: Final = shutil.which("chromium")
WAIT_S: Final = 60.0
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
TOLD: Final = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
"""Events that a page without faults does not bring about."""
WITHOUT: Final = "the page needs a browser: apt-get install chromium"


def _high(descriptor: int) -> int:
    """The same under a number that 3 and 4, which the browser wants, can't be in the way of."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return moved


@attrs.define
class Browser:
    """A running browser. For one thread."""

    commands: int
    answers: int
    numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))
    rest: bytes = b""
    events: list[dict[str, Any]] = attrs.field(factory=list)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """One command and its answer; events that come first are kept."""
        number = next(self.numbers)
        command = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while (message := self.read()).get("id") != number:
            self.events.append(message)
        assert "error" not in message, (method, message)
        return dict(message["result"])

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            assert select.select([self.answers], [], [], WAIT_S)[0], "the browser does not answer"
            read = os.read(self.answers, 1 << 16)
            assert read, "the browser has gone"
            self.rest += read
        one, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(one))

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.read())


@attrs.define
class Page:
    """One page that has been opened."""

    browser: Browser
    session: str

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, as JSON."""
        answer = self.browser.call("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def told(self) -> list[Mapping[str, Any]]:
        """Messages of the console, and what was asked of a network."""
        self.evaluate("1")  # what was under way before this has been told by now
        asked = [event for event in self.browser.events if event.get("method") == "Network.requestWillBeSent"]
        network = [event for event in asked if not event["params"]["request"]["url"].startswith(("file:", "data:"))]
        return [event for event in self.browser.events if event.get("method") in TOLD] + network


@contextmanager
def running(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile. Without Chromium the test is skipped, and fails in CI."""
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(WITHOUT)
    heard, commands = map(_high, os.pipe())
    answers, said = map(_high, os.pipe())
    start = [
        "bash",
        "-c",
        f'exec "$@" 3<&{heard} 4>&{said}',
        "chromium",
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
    ]
    with subprocess.Popen(
        start, pass_fds=(heard, said), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        os.close(heard)
        os.close(said)
        try:
            browser = Browser(commands=commands, answers=answers)
            yield browser
            browser.call("Browser.close")
        finally:
            os.close(commands)
            os.close(answers)
            process.kill()


@contextmanager
def opened(
    browser: Browser, path: Path, *, width: int = 1280, scheme: str = "light", media: str = "screen"
) -> Iterator[Page]:
    """A page of a file, at a width in CSS pixels and in a colour scheme."""
    browser.events.clear()
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.call(f"{domain}.enable", session)
    browser.call(
        "Emulation.setDeviceMetricsOverride", session, width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    browser.call(
        "Emulation.setEmulatedMedia", session, media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    browser.call("Page.navigate", session, url=path.as_uri())
    browser.wait_for("Page.loadEventFired")
    try:
        yield Page(browser, session)
    finally:
        browser.call("Target.closeTarget", targetId=target)
