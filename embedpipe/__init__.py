"""embedpipe: batch embedding that proves nothing was lost.

The names below are the public API; each is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from embedpipe.assembly import Backends
    from embedpipe.config import Config
    from embedpipe.errors import EmbedpipeError
    from embedpipe.layout import SEED, Layout
    from embedpipe.limits import Limits, Policy
    from embedpipe.model import LINE, WORD, EmbeddingModel, Hit, Kind, Record
    from embedpipe.pipeline import Pipeline
    from embedpipe.reading import read_records
    from embedpipe.reports import Estimate, IngestReport, RunReport, StatusReport, SubmitReport
    from embedpipe.retry import RetryPolicy

_HOMES: Final = {
    "assembly": ("Backends",),
    "config": ("Config",),
    "errors": ("EmbedpipeError",),
    "layout": ("SEED", "Layout"),
    "limits": ("Limits", "Policy"),
    "model": ("LINE", "WORD", "EmbeddingModel", "Hit", "Kind", "Record"),
    "pipeline": ("Pipeline",),
    "reading": ("read_records",),
    "reports": ("Estimate", "IngestReport", "RunReport", "StatusReport", "SubmitReport"),
    "retry": ("RetryPolicy",),
}
_HOME: Final = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "LINE",
    "SEED",
    "WORD",
    "Backends",
    "Config",
    "EmbeddingModel",
    "EmbedpipeError",
    "Estimate",
    "Hit",
    "IngestReport",
    "Kind",
    "Layout",
    "Limits",
    "Pipeline",
    "Policy",
    "Record",
    "RetryPolicy",
    "RunReport",
    "StatusReport",
    "SubmitReport",
    "read_records",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'embedpipe' has no attribute {name!r}")
    return getattr(importlib.import_module(f"embedpipe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
