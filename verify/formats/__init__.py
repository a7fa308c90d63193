"""Renderings of one report: each is a pure function from the report to text, so that they always agree."""

from __future__ import annotations
