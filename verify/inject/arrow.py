"""Arrow files as bytes, changed as a whole. Knows nothing of what the rows are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__all__ = ["rewritten", "rows_in", "without"]


def without(rows: Any, ids: list[str]) -> Any:
    """A table without some ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return rows.filter(pc.invert(pc.is_in(rows.column("id"), value_set=pa.array(ids, pa.string()))))


def rewritten(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """An Arrow file with its table changed."""
    from embedpipe.vectors import open_arrow, write_arrow

    with _file(data) as path:
        with open_arrow(path) as file:
            table = change(file.table())
            schema = file.schema
        other = path.with_name("other")
        write_arrow(other, schema, table.to_batches())
        return other.read_bytes()


def rows_in(data: bytes) -> int:
    """Rows of an Arrow file."""
    from embedpipe.vectors import open_arrow

    with _file(data) as path, open_arrow(path) as file:
        return file.rows


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one"
        path.write_bytes(data)
        yield path
