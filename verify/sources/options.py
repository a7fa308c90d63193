"""The options that name resources of AWS, as one decorator, and the source that they and the common options become."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click

from embedpipe.cli.options import Settings

if TYPE_CHECKING:
    from verify.audit.sources import Source

__all__ = ["Named", "on_aws"]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class Named:
    """What was named."""

    bucket: str | None
    table: str | None
    machines: tuple[str, ...]
    log_groups: tuple[str, ...]
    region: str | None
    endpoint_url: str | None

    @property
    def anything(self) -> bool:
        """Whether a resource was; a region alone names none."""
        return bool(self.bucket or self.table or self.machines or self.log_groups)

    def source(self, settings: Settings, layout: str | None = None) -> Source:
        """What is audited: these resources where one is named, else the root of the common options."""
        import verify
        from verify.sources import live

        config = settings.load()
        if not self.anything:
            return verify.root(config.root, kind=settings.kind, layout=layout, config=config)
        return live.aws(
            bucket=self.bucket,
            table=self.table,
            state_machine_arns=self.machines,
            log_groups=self.log_groups,
            region=self.region,
            endpoint_url=self.endpoint_url,
            config=config,
            kind=settings.kind,
            layout=layout,
        )


_OPTIONS: Final = (
    click.option("--bucket", metavar="NAME", help="Audit this bucket of S3, and what else is named here."),
    click.option("--table", metavar="NAME", help="Of DynamoDB."),
    click.option(
        "--state-machine-arn",
        "machines",
        metavar="ARN",
        multiple=True,
        help="A machine whose executions are audited; repeatable.",
    ),
    click.option("--log-group", "log_groups", metavar="NAME", multiple=True, help="Of a mark function; repeatable."),
    click.option("--region", metavar="NAME", help="Of AWS. [default: as the SDK finds it]"),
    click.option("--endpoint-url", metavar="URL", help="Of a server in place of AWS. [default: as the SDK finds it]"),
)


def on_aws(function: F) -> F:
    """Add the options; the command gets them as `named`."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        values = {field.name: kwargs.pop(field.name) for field in attrs.fields(Named)}
        return function(*args, named=Named(**values), **kwargs)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]  # the wrapper takes the options in their place
