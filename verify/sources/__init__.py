"""Where an audit reads from: live AWS, and memory for tests."""

from __future__ import annotations
