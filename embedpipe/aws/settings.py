"""What somebody chooses of a deployment, and the settings that go with it: an `embedpipe.toml` beside the code in the image.

The rule: what the template says through the environment (where objects, rows and vectors are, which model) is not said in
that file, so that the two can't contradict each other; the environment would win anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from embedpipe.config import Config
from embedpipe.layout import SEED, Layout
from embedpipe.retry import RetryPolicy

NAME: Final = "embedpipe.toml"
PATH: Final = f"/var/task/{NAME}"
"""In the image; `/var/task` is where Lambda keeps a function's code."""
SHIPPED: Final = ("layout.", "limits.", "policy.", "retry.")
PROVIDER: Final = ("provider.api_version", "provider.file_ready_s", "provider.send_dimensions", "provider.timeout_s")
"""Of the provider, what the template has no parameter for."""

HEAD: Final = """\
# Settings of the functions, beside what the template sets. Change them here and deploy again.
# All keys: embedpipe config show --origin
"""


@attrs.frozen(kw_only=True)
class Choices:
    """What somebody may choose of a deployment, beside its kind."""

    schedule: str = "rate(15 minutes)"
    """When an ingest begins, in EventBridge's words."""
    layout: Layout = SEED
    retry: RetryPolicy = RetryPolicy()
    model: str = "text-embedding-3-small"
    dimensions: int = 1_536
    base_url: str = "https://api.openai.com/v1"
    """The last three are defaults of the template's parameters."""
    changed: Mapping[str, object] = attrs.field(factory=dict)
    """Settings that go with it."""

    @property
    def key_variable(self) -> str:
        """The environment variable in which the provider's SDK looks for the key."""
        return "AZURE_OPENAI_API_KEY" if self.changed.get("provider.api_version") else "OPENAI_API_KEY"

    @property
    def deletes_files(self) -> bool:
        """Whether the provider's files are deleted, so that mark asks the provider, too."""
        return self.changed.get("policy.delete_provider_files") is True


def choices(config: Config, schedule: str) -> Choices:
    """What a configuration says of a deployment: all of it for a provider that a function can ask, else no model."""
    asked = config.provider.backend == "openai"
    changed = {
        key: origin.value
        for key, origin in config.origins.items()
        if not origin.source.startswith("default") and (key.startswith(SHIPPED) or (asked and key in PROVIDER))
    }
    if not changed.keys().isdisjoint(PROVIDER):
        changed["provider.backend"] = "openai"  # else the file could not be read again: others have no such options
    made = Choices(schedule=schedule, layout=config.layout, retry=config.retry, changed=changed)
    if not asked:
        return made
    base_url = config.provider.options.get("base_url") or made.base_url
    if config.origins["provider.model"].source.startswith("default"):  # as in a file that was written here
        return attrs.evolve(made, base_url=base_url)
    return attrs.evolve(made, model=config.model.name, dimensions=config.model.dimensions, base_url=base_url)


def text(values: Mapping[str, object]) -> str:
    """The file, as dotted keys.

    >>> print(text({"limits.creates_per_minute": 30, "layout.statuses": {"PENDING": "OPEN"}}).removeprefix(HEAD), end="")
    limits.creates_per_minute = 30
    layout.statuses = { "PENDING" = "OPEN" }
    """
    return HEAD + "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(name)} = {_value(item)}" for name, item in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value)  # strings, numbers and booleans are spelled alike
