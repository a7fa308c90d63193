"""The alarms of the deployment: executions that failed, batches that are pending too long, what can't be read or was lost.

The metrics are AWS's own, or `telemetry`'s: name, namespace and dimension are those that the functions write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from embedpipe.aws import telemetry
from embedpipe.aws.state_machine import title_of
from embedpipe.limits import BATCH_WINDOW_S
from embedpipe.model import Kind

Document = dict[str, Any]

PENDING_MAX_S: Final = BATCH_WINDOW_S + 6 * 3600
"""[ours] The provider's own window, and time for a few executions."""
COUNTED: Final[Mapping[str, str]] = {
    "batch_lost_events": "The provider lost a batch: what was paid for it gave nothing, its records go again.",
    "ambiguous_create_events": "A create had no answer: a batch may have been paid for twice.",
    "delta_left_out_events": "Vectors of a batch can't be used; the batch stays open.",
    "result_unreadable_events": "What is known of a batch can't be read, or its poll failed; it is polled again.",
    "row_unreadable_events": "A row of the table can't be read and is left alone until somebody mends it.",
}
"""Metric -> what it means that it is not 0."""
PARAMETERS: Final[Mapping[str, Document]] = {
    "AlarmTopicArn": {
        "Type": "String",
        "Default": "",
        "Description": "Topic of SNS that is told of alarms; empty: nobody is",
    }
}
CONDITIONS: Final[Mapping[str, Document]] = {
    "HasAlarmTopic": {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmTopicArn"}, ""]}]}
}
"""The last two: what the template needs for them."""


def alarms(kind: Kind) -> Document:
    """Resources by name."""
    failed = {f"{machine}FailedAlarm": _failed(machine) for machine in ("Submit", "Ingest")}
    counted = {f"{title_of(Kind(metric))}Alarm": _alarm(text, _own(metric, kind)) for metric, text in COUNTED.items()}
    return {**failed, **counted, "PendingTooLongAlarm": _pending(kind), "WaitingTooLongAlarm": _waiting(kind)}


def _failed(machine: str) -> Document:
    return _alarm(
        f"An execution of {machine.lower()} failed: nothing is lost, and its history says why.",
        {
            "Namespace": "AWS/States",
            "MetricName": "ExecutionsFailed",
            "Dimensions": [{"Name": "StateMachineArn", "Value": {"Ref": f"{machine}Machine"}}],
        },
    )


def _pending(kind: Kind) -> Document:
    text = f"A batch has been pending for more than {PENDING_MAX_S // 3600} hours: ask the provider about it."
    return _too_long(text, _own("listed_oldest_s", kind))


def _waiting(kind: Kind) -> Document:
    """Executions succeed all the while: a batch that is refused costs nobody else."""
    text = f"A batch can't be created for more than {PENDING_MAX_S // 3600} hours: the log's create_refused events say why."
    return _too_long(text, _own("waiting_oldest_s", kind))


def _too_long(text: str, metric: Document) -> Document:
    return _alarm(
        text,
        metric,
        Statistic="Maximum",
        Threshold=PENDING_MAX_S,
        TreatMissingData="ignore",  # nothing is said between two executions
    )


def _own(metric: str, kind: Kind) -> Document:
    """A metric that the functions write themselves."""
    return {
        "Namespace": telemetry.NAMESPACE,
        "MetricName": metric,
        "Dimensions": [{"Name": telemetry.DIMENSION, "Value": kind.name}],
    }


def _alarm(text: str, metric: Document, **changes: object) -> Document:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": text,
            **metric,
            "Statistic": "Sum",
            "Period": 300,
            "EvaluationPeriods": 1,
            "Threshold": 1,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
            "AlarmActions": [{"Fn::If": ["HasAlarmTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AWS::NoValue"}]}],
            **changes,
        },
    }
