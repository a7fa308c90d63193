"""A Chroma server in a process of its own, one for all tests of a session."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import chromadb
import httpx

from embedpipe.backends.system import SystemClock

START_POLLS: Final = 400
_numbers: Final = itertools.count()
SCRIPT: Final = "import sys; from chromadb.cli.cli import app; sys.argv[0] = 'chroma'; app()"


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """Its URL, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SCRIPT, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait(process, url := f"http://127.0.0.1:{port}", folder)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    for _ in range(START_POLLS):
        assert process.poll() is None, (folder / "log").read_text()
        try:
            httpx.get(f"{url}/api/v2/heartbeat", timeout=1)
        except httpx.HTTPError:
            SystemClock().sleep(0.05)
        else:
            return
    raise AssertionError((folder / "log").read_text())


def new_database(url: str) -> str:
    """The name of a new Chroma database there."""
    name = f"database-{next(_numbers)}"
    host, _, port = url.removeprefix("http://").partition(":")
    settings = chromadb.config.Settings(
        _env_file=None,
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_server_host=host,
        chroma_server_http_port=int(port),
    )
    admin: Any = chromadb.AdminClient(settings)
    admin.create_database(name)
    admin._server._session.close()
    return name
