"""What a repair writes to, and opening it; of a root or a deployment nothing else is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from embedpipe.layout import SEED, Layout
from embedpipe.ports import BatchTable, BlobStore, Clock
from embedpipe.retry import RetryPolicy
from verify.audit.findings import WrongQuestion

if TYPE_CHECKING:
    from embedpipe.assembly import Choice
    from embedpipe.config import Config

__all__ = ["Stores", "of_aws", "of_root"]


@attrs.frozen(kw_only=True)
class Stores:
    """Objects and rows of one deployment."""

    objects: BlobStore
    table: BatchTable
    clock: Clock
    layout: Layout = SEED
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    place: str = ""
    """Which they are, as `Source.place`."""
    close: Callable[[], None] = lambda: None


def of_root(config: Config, layout: str | None = None) -> Stores:
    """The stores that a configuration names. `WrongQuestion` where nothing is there."""
    if config.objects.backend == "files" and not config.root.is_dir():
        raise WrongQuestion(f"{config.root}: nothing is there.", hint="Check the name of the root.")
    return _opened(config, {"objects": config.objects, "table": config.table}, layout)


def of_aws(
    config: Config,
    *,
    bucket: str | None,
    table: str | None,
    region: str | None,
    endpoint_url: str | None,
    layout: str | None = None,
) -> Stores:
    """The bucket and the table that are named, or configured. `WrongQuestion` where one of them is not."""
    from verify.sources.live import remote

    choices = remote(config, bucket=bucket, table=table, region=region, endpoint_url=endpoint_url)
    absent = [option for port, option in (("objects", "--bucket"), ("table", "--table")) if port not in choices]
    if absent:
        raise WrongQuestion(
            "A repair needs the objects and the rows of one deployment.", hint=f"Name it: {' and '.join(absent)}."
        )
    return _opened(config, choices, layout)


def _opened(config: Config, choices: Mapping[str, Choice], layout: str | None) -> Stores:
    from verify.sources.live import opened, place_of, wanted_layout

    named = wanted_layout(layout, config)
    made = opened(config, choices, named)
    return Stores(
        objects=made.ports["objects"],
        table=made.ports["table"],
        clock=made.clock,
        layout=named,
        retry=config.retry,
        place=place_of(choices, named),
        close=made.close,
    )
