"""The two files of a batch, checked: the provider's input and the records. The input can be made again, the records cannot."""

from __future__ import annotations

from pathlib import Path

import attrs

from embedpipe.errors import CorruptData, NotFound
from embedpipe.model import BatchRow
from embedpipe.steps.context import Context

RESTORE = "Restore it from a backup and run again; until then its records are not embedded."


def records_file(ctx: Context, batch_id: str, sha256: str | None, folder: Path) -> Path:
    """The record file of a batch as a local file, its hash checked. `CorruptData` where it is lost or damaged."""
    from embedpipe.vectors import sha256_file

    key, path = ctx.layout.records_key(batch_id), folder / f"{batch_id}-records.arrow"
    if path.exists():
        return path
    try:
        ctx.objects.download(key, path)
    except NotFound:
        raise CorruptData(f"{key} is missing.", hint=RESTORE, key=key, batch_id=batch_id) from None
    if sha256 is not None and sha256_file(path) != sha256:
        path.unlink()
        raise CorruptData(f"{key} fails its hash.", hint=RESTORE, key=key, batch_id=batch_id)
    return path


def request_file(ctx: Context, row: BatchRow, folder: Path) -> Path:
    """The provider's input of a batch, its hash checked; made again from the records where it is lost or damaged.

    `CorruptData` where that does not give the file that was submitted.
    """
    from embedpipe.vectors import sha256_file

    key, path = ctx.layout.requests_key(row.batch_id), folder / f"{row.batch_id}-request.jsonl"
    try:
        ctx.objects.download(key, path)
        if row.request_sha256 is None or sha256_file(path) == row.request_sha256:
            return path
        path.unlink()
        what = "fails its hash"
    except NotFound:
        what = "is missing"
    if row.request_sha256 is not None and row.request_count is not None:
        _write_again(ctx, row, folder, path)
        if sha256_file(path) == row.request_sha256:
            return path
    raise CorruptData(f"{key} {what}; it is not sent.", hint=RESTORE, key=key, batch_id=row.batch_id)


def _write_again(ctx: Context, row: BatchRow, folder: Path, path: Path) -> None:
    from embedpipe.stages.submit import request_lines
    from embedpipe.vectors import open_arrow, records_schema

    name, dimensions = row.model or ctx.model.name, row.dimensions or ctx.model.dimensions
    model = attrs.evolve(ctx.model, name=name, dimensions=dimensions)
    with (
        open_arrow(records_file(ctx, row.batch_id, row.records_sha256, folder), records_schema()) as file,
        path.open("wb") as target,
    ):
        for batch in file.batches():
            ids, texts = (batch.column(column).to_pylist() for column in ("id", "document"))
            target.writelines(request_lines(ids, texts, model))
