"""The library's face: `verify.root` and `verify.aws` name what to audit, `verify.check` audits it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from embedpipe.layout import Layout
from embedpipe.model import Kind
from verify.audit.catalogue import chosen
from verify.audit.checks import Depth
from verify.audit.engine import audit
from verify.audit.engine import estimate as estimated
from verify.audit.estimate import PRICES, Estimate
from verify.audit.files import read_suppressions
from verify.audit.findings import WrongQuestion, severity_named
from verify.audit.options import Options, Progress, Suppression
from verify.audit.report import Report
from verify.audit.sources import Source

if TYPE_CHECKING:
    from embedpipe.config import Config

__all__ = ["aws", "check", "estimate", "root"]

ALWAYS_READ: Final = ("objects", "table")
OPTIONAL: Final = ("vectors", "provider")
OF_EXECUTIONS: Final = ("histories", "logs")
PAID: Final = ("s3", "dynamodb")
"""Backends whose every call costs something."""

_AGE: Final = re.compile(r"(\d+)\s*(s|min|h|d|w)")
_UNIT_S: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


def root(
    path: str | Path,
    *,
    kind: Kind | str | None = None,
    config_file: str | Path | None = None,
    layout: Layout | str | Path | None = None,
    config: Config | None = None,
) -> Source:
    """What a local runner left in the root directory `path`; of one kind only where `kind` names it.

    Opens the stores of its configuration for reading; that is found in the root unless `config` is given. `layout`: the names
    of a pipeline that was not built with embedpipe, or the TOML file that has them. `WrongQuestion` where nothing is there,
    `ConfigError`.
    """
    from embedpipe.config import Config
    from verify.sources.live import opened, place_of, wanted_kinds, wanted_layout

    config = config or Config.load(path, file=config_file)
    _check_root(config)
    layout = wanted_layout(layout, config)
    made = opened(config, {port: getattr(config, port) for port in (*ALWAYS_READ, *OPTIONAL)}, layout)
    return Source.over(
        str(path),
        objects=made.ports["objects"],
        table=made.ports["table"],
        vectors=made.ports.get("vectors"),
        provider=made.ports.get("provider"),
        clock=made.clock,
        kinds=wanted_kinds(kind),
        expected=wanted_kinds(config.kind),
        layout=layout,
        policy=config.policy,
        retry_policy=config.retry,
        unreachable=made.unreachable,
        prices=_prices({"objects": config.objects.backend, "table": config.table.backend}),
        place=place_of({"objects": config.objects, "table": config.table}, layout),
        close=made.close,
    )


def _check_root(config: Config) -> None:
    """`WrongQuestion` where nothing was ever kept, or both objects and table are gone: there nothing would be found wrong."""
    if config.objects.backend == "files" and not config.root.is_dir():
        raise WrongQuestion(f"{config.root}: nothing is there.", hint="Check the name of the root.")
    if (config.objects.backend, config.table.backend) != ("files", "sqlite"):
        return
    from embedpipe.config import CONFIG_FILE

    there = {port for port in (*ALWAYS_READ, *OPTIONAL) for path in _paths(config, port) if path.exists()}
    begun = (config.root / CONFIG_FILE).exists()
    if not there.intersection(ALWAYS_READ) and (there or not begun):
        raise WrongQuestion(
            f"{config.root} has neither objects nor a table.",
            hint="Check the name of the root; or has all of it been lost?",
        )


def _paths(config: Config, port: str) -> Iterator[Path]:
    """Where a backend on this machine keeps what it has."""
    return (value for value in getattr(config, port).options.values() if isinstance(value, Path))


def aws(
    *,
    bucket: str | None = None,
    table: str | None = None,
    state_machine_arns: Iterable[str] = (),
    log_groups: Iterable[str] = (),
    region: str | None = None,
    endpoint_url: str | None = None,
    config_file: str | Path | None = None,
    kind: Kind | str | None = None,
    layout: Layout | str | Path | None = None,
) -> Source:
    """What a deployment has left in AWS. What is not named is out of scope, and the ledger says so.

    Credentials, and region and endpoint where they are not given, come from the SDK's own chain. `config_file` names the
    provider and the vector store, and bucket and table where they are not given; `state_machine_arns` may hold the submit
    and the ingest machine, `log_groups` those of the mark functions. `MissingExtra`, `ConfigError`, `WrongQuestion`.
    """
    from embedpipe.config import Config
    from verify.sources import live

    return live.aws(
        bucket=bucket,
        table=table,
        state_machine_arns=state_machine_arns,
        log_groups=log_groups,
        region=region,
        endpoint_url=endpoint_url,
        config=Config.load(file=config_file),
        kind=kind,
        layout=layout,
    )


def _prices(backends: Mapping[str, str]) -> Mapping[str, float]:
    """What the calls of these backends cost."""
    paid = {port for port, backend in backends.items() if backend in PAID}
    return {kind: price for kind, price in PRICES.items() if kind.partition(".")[0] in paid}


def check(
    source: Source | str | Path,
    *,
    depth: str = "content",
    since: datetime | str | None = None,
    executions: Iterable[str] = (),
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    grace_s: float = 3_600.0,
    fail_on: str = "warning",
    scope: Iterable[str] = (),
    suppressions: Iterable[Suppression] | str | Path = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_estimate: Callable[[Estimate], None] | None = None,
    resume: str | Path | None = None,
) -> Report:
    """Audit a source, or a root directory. Reads only.

    `depth`: `metadata` (keys and rows), `content` (objects parsed and hashed) or `vectors` (every vector compared).
    `since`: a time, or an age such as `7d`, `12h`, `30min`. `select`, `ignore`: beginnings of codes, such as `P` or `B701`.
    `scope`: of `objects`, `table`, `vectors`, `provider`, `histories`, `logs` those to read (the first two always); none: all.
    `suppressions`: findings that somebody lives with for a while, or the TOML file that has them.
    `grace_s`: what is younger may still be on its way. `on_estimate` is told what will be called, before batches are read.
    `resume`: a directory for what has been checked; an audit that was interrupted goes on where the same is asked again, and
    one that has ended removes it. What can't be read is in the report, and raises nothing.
    """
    with _opened(source) as opened:
        options = Options(
            depth=_depth(depth),
            grace_s=grace_s,
            codes=chosen(select, ignore),
            fail_on=severity_named(fail_on),
            since=_since(since, opened.clock.now()),
            executions=frozenset(executions),
            suppressions=_suppressions(suppressions),
            on_progress=on_progress,
            on_estimate=on_estimate,
            state=Path(resume) if resume is not None else None,
        )
        return audit(_within(opened, frozenset(scope)), options)


def estimate(
    source: Source | str | Path,
    *,
    depth: str = "content",
    since: datetime | str | None = None,
    executions: Iterable[str] = (),
    scope: Iterable[str] = (),
) -> Estimate:
    """What `check` with the same options would call, and what that costs. Lists every batch, and reads none."""
    with _opened(source) as opened:
        options = Options(
            depth=_depth(depth), since=_since(since, opened.clock.now()), executions=frozenset(executions)
        )
        return estimated(_within(opened, frozenset(scope)), options)


@contextmanager
def _opened(source: Source | str | Path) -> Iterator[Source]:
    """A source that is given stays open."""
    if isinstance(source, Source):
        yield source
        return
    opened = root(source)
    try:
        yield opened
    finally:
        opened.close()


def _depth(name: str) -> Depth:
    if name not in Depth.__members__.values():
        raise WrongQuestion(f"There is no depth {name!a}.", hint=f"Use {', '.join(Depth)}.")
    return Depth(name)


def _within(source: Source, scope: frozenset[str]) -> Source:
    """The source without what is out of scope."""
    unknown = scope - {*ALWAYS_READ, *OPTIONAL, *OF_EXECUTIONS}
    if unknown:
        known = ", ".join((*ALWAYS_READ, *OPTIONAL, *OF_EXECUTIONS))
        raise WrongQuestion(f"There is no source {sorted(unknown)[0]!a}.", hint=f"Use some of {known}.")
    if not scope:
        return source
    return attrs.evolve(
        source,
        vectors=source.vectors if "vectors" in scope else None,
        provider=source.provider if "provider" in scope else None,
        histories=source.histories if "histories" in scope else None,
        machines=source.machines if "histories" in scope else (),
        logs=source.logs if "logs" in scope else None,
        log_groups=source.log_groups if "logs" in scope else (),
        unreachable={port: why for port, why in source.unreachable.items() if port in scope},
    )


def _suppressions(given: Iterable[Suppression] | str | Path) -> tuple[Suppression, ...]:
    return read_suppressions(Path(given)) if isinstance(given, str | Path) else tuple(given)


def _since(value: datetime | str | None, now: datetime) -> datetime | None:
    if not isinstance(value, str):
        return value
    age = _AGE.fullmatch(value.strip())
    if age is not None:
        return now - timedelta(seconds=int(age[1]) * _UNIT_S[age[2]])
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise WrongQuestion(
            f"{value[:40]!a} is neither a time nor an age.", hint="Write 7d, 12h, 30min, or 2026-01-31T08:00:00Z."
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=now.tzinfo)
