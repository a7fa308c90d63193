"""Vectors on their way: Arrow files of records, vectors and catalogs, provider output read as a stream, scratch rows.

The rule kept here: memory stays flat in the size of a file. Nothing here knows a key, a port or a decision.
"""

from __future__ import annotations

from embedpipe.vectors.arrow import (
    ArrowFile,
    ArrowWriter,
    arrow_source,
    arrow_writer,
    catalog_schema,
    open_arrow,
    records_schema,
    release_memory,
    sha256_file,
    vector_column,
    vector_matrix,
    vectors_schema,
    write_arrow,
)
from embedpipe.vectors.lines import LINE_TOO_LONG, PROBLEMS, OutputLine, split_lines
from embedpipe.vectors.output import parse_output
from embedpipe.vectors.scratch import Scratch

__all__ = [
    "LINE_TOO_LONG",
    "PROBLEMS",
    "ArrowFile",
    "ArrowWriter",
    "OutputLine",
    "Scratch",
    "arrow_source",
    "arrow_writer",
    "catalog_schema",
    "open_arrow",
    "parse_output",
    "records_schema",
    "release_memory",
    "sha256_file",
    "split_lines",
    "vector_column",
    "vector_matrix",
    "vectors_schema",
    "write_arrow",
]
