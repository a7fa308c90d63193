"""Real processes for tests: start a script of ours, kill it, run it on a disk that is full."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs `script`; it has `arguments` in `sys.argv[1:]`."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Its output, once it has ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def run_on_small_disk(script: str, mount_point: Path, *arguments: object) -> str:
    """Run `script` with a disk of one megabyte at `mount_point`, which only that process sees."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("a disk of our own needs Linux's unshare")
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    isolated = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*isolated, mount, mount_point, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a disk of their own")
    command = [*isolated, mount, mount_point, sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
