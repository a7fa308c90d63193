"""Events as lines of JSON for CloudWatch: a log line each, and the figures among them as metrics in the embedded format.

A line has ids and counts only, as events do. The format is CloudWatch's own:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from embedpipe import events

log = logging.getLogger("embedpipe.events")

NAMESPACE: Final = "embedpipe"
DIMENSION: Final = "kind"
METRICS: Final[Mapping[type[events.RunEvent], tuple[str, ...]]] = {
    events.Listed: ("batches", "oldest_s"),
    events.Waiting: ("batches", "oldest_s"),
    events.Submitted: ("batches", "records", "skipped"),
    events.BatchPolled: ("vectors", "rejected", "retry"),
    events.Published: ("count",),
    events.MarkedComplete: ("extracted", "eligible", "batches_marked", "already_complete", "skipped", "missing"),
}
"""Fields that are figures, by event."""
COUNTED: Final = (
    events.AmbiguousCreate,
    events.BatchCreated,
    events.BatchLost,
    events.CreateRefused,
    events.DeltaLeftOut,
    events.FilesNotDeleted,
    events.ResultUnreadable,
    events.RowUnreadable,
)
"""Events whose number is the figure."""


def line(event: events.RunEvent, *, kind: str, now: datetime) -> dict[str, Any]:
    """What is logged of one event; with metrics, where it has figures.

    >>> said = line(events.BatchLost(execution_id="e", batch_id="b", provider_batch_id="p", project_seen=True),
    ...             kind="word", now=datetime.fromisoformat("2026-01-01T00:00:00Z"))
    >>> said["event"], said["batch_id"], said["batch_lost_events"], said["_aws"]["Timestamp"]
    ('batch_lost', 'b', 1, 1767225600000)
    """
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    said = {"event": name, DIMENSION: kind, **attrs.asdict(event)}
    figures = {f"{name}_{field}": said[field] for field in METRICS.get(type(event), ())}
    if isinstance(event, COUNTED):
        figures[f"{name}_events"] = 1
    if not figures:
        return said
    metrics = [{"Name": metric, "Unit": "Seconds" if metric.endswith("_s") else "Count"} for metric in figures]
    directive = {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics}
    return {**said, **figures, "_aws": {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]}}


def to_log(kind: str, now: Callable[[], datetime]) -> events.OnEvent:
    """A callback that logs each event as a line of JSON."""

    def on_event(event: events.RunEvent) -> None:
        log.info(json.dumps(line(event, kind=kind, now=now())))

    return on_event


def configure() -> None:
    """Let lines of JSON be all that a function writes: each message of embedpipe is one already."""
    ours = logging.getLogger("embedpipe")
    stream = logging.StreamHandler(sys.stdout)
    stream.setFormatter(logging.Formatter("%(message)s"))
    ours.handlers[:] = [stream]
    ours.setLevel(logging.INFO)
    ours.propagate = False
