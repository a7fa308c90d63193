"""Opening what an audit reads: the backends of a configuration, and live AWS by the names of its resources.

Nothing is asked here: a name that is wrong shows at the first read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from embedpipe.assembly import Choice, close, construct
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config
from embedpipe.errors import ConfigError, MissingExtra
from embedpipe.layout import SEED, Layout
from embedpipe.model import Kind, kind_named
from verify.audit.estimate import PRICES
from verify.audit.files import read_layout
from verify.audit.findings import WrongQuestion
from verify.audit.sources import Source

if TYPE_CHECKING:
    from embedpipe.ports import Clock

__all__ = [
    "Opened",
    "aws",
    "opened",
    "place_of",
    "remote",
    "wanted_kinds",
    "wanted_layout",
]

ALWAYS: Final = ("objects", "table")
_REMOTE: Final[Mapping[str, str]] = {"objects": "s3", "table": "dynamodb"}
_NAMED: Final[Mapping[str, str]] = {"objects": "bucket", "table": "name"}
SERVICE_OPTIONS: Final = ("region", "endpoint_url", "profile")
_TELLING: Final = frozenset({"root", "path", "bucket", "prefix", "name"})
"""Options that say which store it is, and not how it is asked."""


@attrs.define(kw_only=True)
class Opened:
    """Backends by port, and why others could not be opened."""

    clock: Clock
    ports: dict[str, Any] = attrs.field(factory=dict)
    unreachable: dict[str, str] = attrs.field(factory=dict)

    def close(self) -> None:
        """Close what can be closed."""
        for backend in self.ports.values():
            close(backend)


def opened(config: Config, choices: Mapping[str, Choice], layout: Layout) -> Opened:
    """The backends of these choices. `ConfigError` and `MissingExtra` for objects and rows; others are then unreachable."""
    made = Opened(clock=SystemClock())
    offered: dict[str, object] = {
        "clock": made.clock,
        "layout": layout,
        "limits": config.limits,
        "model": config.model.name,
        "dimensions": config.model.dimensions,
        "send_dimensions": config.model.send_dimensions,
    }
    for port, choice in choices.items():
        try:
            made.ports[port] = construct(port, choice.backend, choice.options, offered, directories=choice.directories)
        except (ConfigError, MissingExtra) as error:
            if port in ALWAYS:
                raise
            made.unreachable[port] = str(error)
        if port == "objects":
            offered["objects"] = made.ports[port]  # snapshots of vectors lie there
    return made


def wanted_layout(layout: Layout | str | Path | None, config: Config) -> Layout:
    """The layout that is given, or its file; else the configuration's."""
    if isinstance(layout, str | Path):
        return read_layout(Path(layout))
    return layout or config.layout


def wanted_kinds(kind: Kind | str | None) -> list[Kind]:
    """The one kind that is audited; none: all that are found."""
    if kind is None:
        return []
    return [kind if isinstance(kind, Kind) else kind_named(kind)]


def aws(
    *,
    bucket: str | None = None,
    table: str | None = None,
    state_machine_arns: Iterable[str] = (),
    log_groups: Iterable[str] = (),
    region: str | None = None,
    endpoint_url: str | None = None,
    config: Config,
    kind: Kind | str | None = None,
    layout: Layout | str | Path | None = None,
) -> Source:
    """As `verify.aws`, which says more, with a configuration that was read."""
    choices = remote(config, bucket=bucket, table=table, region=region, endpoint_url=endpoint_url)
    machines, groups = tuple(dict.fromkeys(state_machine_arns)), tuple(dict.fromkeys(log_groups))
    if not (choices or machines or groups):
        raise WrongQuestion("Nothing is named.", hint="Give --bucket and --table, or a --state-machine-arn.")
    for port in ("vectors", "provider"):
        if config.origins[f"{port}.backend"].source != "default":
            choices[port] = getattr(config, port)
    layout = wanted_layout(layout, config)
    made = opened(config, choices, layout)
    place = place_of(choices, layout)
    options = _service_options(config, _service(region, endpoint_url))
    histories, logs = _engine(options, machines=bool(machines), groups=bool(groups))

    def shut() -> None:
        made.close()
        for one in (histories, logs):
            close(one)

    absent = [port for port in ALWAYS if port not in made.ports]
    return Source.over(
        _title(choices, machines, groups),
        objects=made.ports.get("objects") or _nothing("objects"),
        table=made.ports.get("table") or _nothing("table"),
        vectors=made.ports.get("vectors") if not absent else None,
        provider=made.ports.get("provider") if not absent else None,
        histories=histories,
        machines=machines,
        logs=logs,
        log_groups=groups,
        absent=absent,
        clock=made.clock,
        kinds=wanted_kinds(kind),
        expected=wanted_kinds(config.kind),
        layout=layout,
        policy=config.policy,
        retry_policy=config.retry,
        unreachable=made.unreachable,
        prices=PRICES,
        place=place,
        close=shut,
    )


def place_of(choices: Mapping[str, Choice], layout: Layout) -> str:
    """What tells the objects and rows of one deployment from those of another: their backends, names and layout."""
    words = [f"{port}={_told(choices[port])}" for port in ALWAYS if port in choices]
    words += [f"layout={sha256(repr(layout).encode()).hexdigest()[:8]}"] if layout != SEED else []
    return " ".join(words)


def _told(choice: Choice) -> str:
    options = {name: value for name, value in choice.options.items() if name in _TELLING and value}
    named = [str(value.resolve() if isinstance(value, Path) else value) for _, value in sorted(options.items())]
    return ":".join([choice.backend, *named])


def remote(
    config: Config, *, bucket: str | None, table: str | None, region: str | None, endpoint_url: str | None
) -> dict[str, Choice]:
    """The backends of objects and rows that are named, or configured, in AWS."""
    names, service = {"objects": bucket, "table": table}, _service(region, endpoint_url)
    return {port: found for port in _NAMED if (found := _choice(config, port, names[port], service)) is not None}


def _service(region: str | None, endpoint_url: str | None) -> dict[str, str]:
    return {name: value for name, value in (("region", region), ("endpoint_url", endpoint_url)) if value}


def _choice(config: Config, port: str, name: str | None, service: Mapping[str, str]) -> Choice | None:
    """The backend of one port; None where nothing names it."""
    configured: Choice = getattr(config, port)
    remote = configured.backend == _REMOTE[port]
    if name is None and not remote:
        return None
    options = {**(configured.options if remote else {}), **({_NAMED[port]: name} if name else {}), **service}
    return Choice(backend=_REMOTE[port], options=options)


def _service_options(config: Config, service: Mapping[str, str]) -> dict[str, Any]:
    """How the other services are asked: as the table is, where the configuration has one."""
    configured = config.table if config.table.backend == _REMOTE["table"] else config.objects
    known = configured.options if configured.backend in _REMOTE.values() else {}
    return {**{name: known[name] for name in SERVICE_OPTIONS if known.get(name)}, **service}


def _engine(options: Mapping[str, Any], *, machines: bool, groups: bool) -> tuple[Any, Any]:
    from verify.sources.aws import CloudWatchLogs, StepFunctionsHistories

    histories = StepFunctionsHistories(**options) if machines else None
    return histories, CloudWatchLogs(**options) if groups else None


def _title(choices: Mapping[str, Choice], machines: tuple[str, ...], groups: tuple[str, ...]) -> str:
    named = [f"s3://{choices['objects'].options['bucket']}"] if "objects" in choices else []
    named += [f"dynamodb:{choices['table'].options['name']}"] if "table" in choices else []
    return " ".join([*named, *(arn.rpartition(":")[2] for arn in machines), *groups])


def _nothing(port: str) -> Any:
    """What stands in the place of something that is out of scope, and is empty."""
    from embedpipe.backends.memory.objects import MemoryBlobStore
    from embedpipe.backends.memory.table import MemoryBatchTable

    return MemoryBlobStore() if port == "objects" else MemoryBatchTable()
