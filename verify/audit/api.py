"""The library's face: `verify.root` names what to audit, `verify.check` audits it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from embedpipe.errors import ConfigError, MissingExtra
from embedpipe.layout import Layout
from embedpipe.model import Kind, kind_named
from verify.audit.catalogue import chosen
from verify.audit.checks import Depth
from verify.audit.engine import audit
from verify.audit.engine import estimate as estimated
from verify.audit.estimate import PRICES, Estimate
from verify.audit.files import read_layout, read_suppressions
from verify.audit.findings import WrongQuestion, severity_named
from verify.audit.options import Options, Progress, Suppression
from verify.audit.report import Report
from verify.audit.sources import Source

if TYPE_CHECKING:
    from embedpipe.config import Config

__all__ = ["check", "estimate", "root"]

ALWAYS_READ: Final = ("objects", "table")
OPTIONAL: Final = ("vectors", "provider")
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
    from embedpipe.assembly import close, construct
    from embedpipe.backends.system import SystemClock
    from embedpipe.config import Config

    config = config or Config.load(path, file=config_file)
    if config.objects.backend == "files" and not config.root.is_dir():
        raise WrongQuestion(f"{config.root}: nothing is there.", hint="Check the name of the root.")
    if isinstance(layout, str | Path):
        layout = read_layout(Path(layout))
    layout = layout or config.layout
    clock = SystemClock()
    offered = {
        "clock": clock,
        "layout": layout,
        "limits": config.limits,
        "model": config.model.name,
        "dimensions": config.model.dimensions,
        "send_dimensions": config.model.send_dimensions,
    }
    opened: dict[str, object] = {}
    unreachable: dict[str, str] = {}
    for port in ("objects", "table", "vectors", "provider"):
        choice = getattr(config, port)
        try:
            opened[port] = construct(port, choice.backend, choice.options, offered, directories=choice.directories)
        except (ConfigError, MissingExtra) as error:
            if port in ("objects", "table"):
                raise
            unreachable[port] = str(error)
    wanted = kind if isinstance(kind, Kind) or kind is None else kind_named(kind)

    def shut() -> None:
        for backend in opened.values():
            close(backend)

    return Source.over(
        str(path),
        objects=opened["objects"],  # type: ignore[arg-type]  # `construct` has checked that it fits its port
        table=opened["table"],  # type: ignore[arg-type]
        vectors=opened.get("vectors"),  # type: ignore[arg-type]
        provider=opened.get("provider"),  # type: ignore[arg-type]
        clock=clock,
        kinds=[wanted] if wanted else [],
        layout=layout,
        policy=config.policy,
        retry_policy=config.retry,
        unreachable=unreachable,
        prices=_prices({"objects": config.objects.backend, "table": config.table.backend}),
        close=shut,
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
    `scope`: of `objects`, `table`, `vectors`, `provider` those to read (the first two always); none: all there are.
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
    unknown = scope - {*ALWAYS_READ, *OPTIONAL}
    if unknown:
        known = ", ".join((*ALWAYS_READ, *OPTIONAL))
        raise WrongQuestion(f"There is no source {sorted(unknown)[0]!a}.", hint=f"Use some of {known}.")
    if not scope:
        return source
    return attrs.evolve(
        source,
        vectors=source.vectors if "vectors" in scope else None,
        provider=source.provider if "provider" in scope else None,
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
