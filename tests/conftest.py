"""What every test has: a clean environment, and Hypothesis profiles that do not depend on how fast the machine is."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,  # a busy machine is no finding
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own EMBEDPIPE_ variables must not reach a test."""
    for name in os.environ:
        if name.startswith("EMBEDPIPE_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row fills a window, so that small inputs are cut often: what goes wrong goes wrong at a cut."""
    monkeypatch.setattr("embedpipe.stages.streams.WINDOW_BYTES", 1)
