"""The options that say what is audited, as one decorator, and the source that they and the common options become."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click
from click.core import ParameterSource

from embedpipe.cli.options import Settings

if TYPE_CHECKING:
    from verify.audit.sources import Source
    from verify.repair.stores import Stores

__all__ = ["COMMON", "Named", "again", "of_source"]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class Named:
    """What was named."""

    layout: str | None
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

    def source(self, settings: Settings) -> Source:
        """What is audited: these resources where one is named, else the root of the common options."""
        import verify
        from verify.sources import live

        config = settings.load()
        if not self.anything:
            return verify.root(config.root, kind=settings.kind, layout=self.layout, config=config)
        return live.aws(
            bucket=self.bucket,
            table=self.table,
            state_machine_arns=self.machines,
            log_groups=self.log_groups,
            region=self.region,
            endpoint_url=self.endpoint_url,
            config=config,
            kind=settings.kind,
            layout=self.layout,
        )

    def stores(self, settings: Settings) -> Stores:
        """Objects and rows of the same, open for writing."""
        from verify.repair import stores

        config = settings.load()
        if not self.anything:
            return stores.of_root(config, self.layout)
        return stores.of_aws(
            config,
            bucket=self.bucket,
            table=self.table,
            region=self.region,
            endpoint_url=self.endpoint_url,
            layout=self.layout,
        )


_OPTIONS: Final = (
    click.option("--layout", metavar="FILE", help="Names of keys and attributes of another pipeline, as TOML."),
    click.option("--bucket", metavar="NAME", help="This bucket of S3, and what else is named here."),
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


def of_source(function: F) -> F:
    """Add the options; the command gets them as `named`."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        values = {field.name: kwargs.pop(field.name) for field in attrs.fields(Named)}
        return function(*args, named=Named(**values), **kwargs)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]  # the wrapper takes the options in their place


HOW_TO_SAY_IT: Final = frozenset({"json", "quiet", "debug", "out", "dry_run"})
"""Options that change nothing of what is looked at."""


COMMON: Final = frozenset(field.name for field in attrs.fields(Settings))
"""What every command has, by the names of its parameters."""


def again(*words: str, known: frozenset[str] | None = None) -> str:
    """The command line of another command, with those options of the running one that it knows, or else those `known`."""
    context = click.get_current_context()
    shared = (_options(context, words) if known is None else known) - HOW_TO_SAY_IT
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if isinstance(option, click.Option) and given and option.name in shared:
            for value in _spelled(context.params[option.name]):
                words += (option.opts[0], value) if not value.startswith("-") else (f"{option.opts[0]}={value}",)
    return shlex.join(["embedpipe", *words])


def _options(context: click.Context, words: Iterable[str]) -> frozenset[str]:
    """The parameters of the command that these words call: from the root, so that commands need not import each other."""
    command = context.find_root().command
    for word in words:
        found = command.get_command(context, word) if isinstance(command, click.Group) else None
        if found is None:
            break
        command = found
    return frozenset(option.name or "" for option in command.params)


def _spelled(value: Any) -> Iterator[str]:
    """An option's value as a command line has it: a tuple repeats the option, a list is joined, a pair is KEY=VALUE."""
    if isinstance(value, list):
        yield from [",".join(value)] if value else []
        return
    for each in value if isinstance(value, tuple) else (value,):
        yield "=".join(each) if isinstance(each, tuple) else str(each)
