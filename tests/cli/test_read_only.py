"""A root that this user may only read: what only looks works, and what writes says in plain words what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, Run

RIGHTS_OF_ROOT = "-dac_override,-dac_read_search"
"""Capabilities: without them, the modes of files hold for root as for anyone."""


def without_rights() -> list[str]:
    """The start of a command line whose process is held to the modes of files."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("modes do not hold root, and there is no setpriv to give up its rights")
    start = [setpriv, f"--bounding-set={RIGHTS_OF_ROOT}"]
    if subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let root give up its rights")
    return start


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose root has two records, and in which nothing can be written."""
    home = tmp_path_factory.mktemp("sealed")
    (home / "x.txt").write_text("the first line\nthe second line\n")
    (home / "y.txt").write_text("a third line\n")
    subprocess.run([sys.executable, "-m", "embedpipe", "run", "x.txt", "-q"], cwd=home, check=True, capture_output=True)
    root = home / ".embedpipe"
    paths = [root, *root.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths if not path.is_symlink()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield home
    for path, mode in modes.items():
        path.chmod(mode)


def call(home: Path, *args: str) -> Ended:
    command = [*without_rights(), sys.executable, "-m", "embedpipe", *args]
    ended = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("status", "--json"), '"collection_count": 2'),
        (("search", "the second line", "-k", "1"), "the second line"),
        (("config", "show"), "limits.requests_per_batch"),
        (("estimate", "y.txt"), "requests  1"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_only_looks_works(sealed: Path, command: tuple[str, ...], said: str) -> None:
    ended = call(sealed, *command)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert said in ended.stdout


@pytest.mark.parametrize("command", [("run", "y.txt"), ("submit", "y.txt"), ("ingest",), ("init",)], ids="".join)
def test_what_writes_says_what_to_do(sealed: Path, command: tuple[str, ...]) -> None:
    ended = call(sealed, *command, "-q")
    assert ended.exit_code == 6
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert "ermission" in ended.stderr
    assert str(Path(".embedpipe")) in ended.stderr


def tree(home: Path) -> set[Path]:
    return set(home.rglob("*"))


@pytest.mark.parametrize("command", ["status", "search x", "config show --origin", "estimate x.txt", "run missing.txt"])
@pytest.mark.parametrize("begun", [True, False])
def test_what_only_looks_makes_nothing(run: Run, tmp_path: Path, command: str, begun: bool) -> None:
    (tmp_path / "x.txt").write_text("a line\n")
    if begun:
        assert run("init").exit_code == 0
    before = tree(tmp_path)
    expected = {"status": 0, "search x": 0} if begun else {"status": 5, "search x": 5}
    assert run(*command.split()).exit_code == {"run missing.txt": 5, **expected}.get(command, 0)
    assert tree(tmp_path) == before


WRITES = """
import sys
from pathlib import Path
from embedpipe.backends.chroma import ChromaVectorStore
from embedpipe.backends.files import FilesBlobStore
from embedpipe.backends.local_model import LocalModelProvider
from embedpipe.backends.sqlite import SqliteBatchTable
from embedpipe.backends.system import SystemClock
from embedpipe.errors import Unauthorized
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow

root = Path(".embedpipe")

def edit(database):
    with ChromaVectorStore(root / "chroma").editing(database, "record", version=None, dimensions=256):
        print("edited")

for write in (
    lambda: FilesBlobStore(root / "objects").put("embedpipe.json", b""),
    lambda: SqliteBatchTable(root / "table.sqlite3").put_new(BatchRow(batch_id="b", batch_type="W", status=Status.PENDING)),
    lambda: LocalModelProvider(root / "provider", SystemClock()).upload(Path("x.txt")),
    lambda: LocalModelProvider(root / "new", SystemClock()).upload(Path("x.txt")),
    lambda: edit("record"),
    lambda: edit("other"),
):
    try:
        write()
    except Unauthorized as error:
        print(error)
"""


def test_each_backend_says_so_in_words_of_ours(sealed: Path) -> None:
    command = [*without_rights(), sys.executable, "-c", WRITES]
    said = subprocess.run(command, cwd=sealed, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 6
    assert all(".embedpipe" in line and "Check who owns" in line for line in said), said
    assert "may not be written, or not even read" in said[1]


def test_rows_in_the_log_of_a_dead_writer_are_not_missed(sealed: Path) -> None:
    """SQLite's log beside the file has rows that the file has not: they are read, or it is said that they can't be."""
    code = (
        "import os, sqlite3\n"
        "table = sqlite3.connect('.embedpipe/table.sqlite3', isolation_level=None)\n"
        "table.execute(\"UPDATE items SET index_sk = replace(index_sk, 'BATCH_ID#', 'BATCH_ID#late-')\")\n"
        "os._exit(0)\n"
    )
    root = sealed / ".embedpipe"
    root.chmod(0o755)
    (root / "table.sqlite3").chmod(0o644)
    subprocess.run([sys.executable, "-c", code], cwd=sealed, check=True)
    for path in root.glob("table.sqlite3*"):
        path.chmod(0o444)
    root.chmod(0o555)
    assert (root / "table.sqlite3-wal").stat().st_size
    code = (
        "from pathlib import Path\n"
        "from embedpipe.backends.sqlite import SqliteBatchTable\n"
        "from embedpipe.lifecycle import Status\n"
        "table = SqliteBatchTable(Path('.embedpipe/table.sqlite3'))\n"
        "print(*table.by_status('RECORD_EMBEDDING', Status.COMPLETED))\n"
    )
    command = [*without_rights(), sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=sealed, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("late-") or "Unauthorized" in ended.stderr
