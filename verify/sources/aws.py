"""Histories of Step Functions and log groups of CloudWatch, behind the auditor's own ports.

The rule kept here: calls that read, and no others; the SDK is made, and its errors become ours, where all of AWS is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from embedpipe.backends.aws_client import Connection
from embedpipe.backends.aws_errors import Call, Resource
from embedpipe.errors import ConfigError
from verify.audit.ports import Event, LogLine, MapRun, Page, Run

if TYPE_CHECKING:
    from verify.audit.ports import Histories, Logs

__all__ = ["CloudWatchLogs", "StepFunctionsHistories", "region_of"]

PAGE: Final = 1_000
"""[aws] Executions, or events, of one call."""
LINES_PAGE: Final = 10_000
"""[aws] Log lines of one call."""


def region_of(arn: str) -> str:
    """The region that an ARN names; empty where it is no ARN.

    >>> region_of("arn:aws:states:eu-central-1:123456789012:stateMachine:ingest")
    'eu-central-1'
    """
    parts = arn.split(":")
    return parts[3] if len(parts) > 3 and parts[0] == "arn" else ""


class _Connections:
    """A connection for each resource, so that messages name the one that is asked."""

    def __init__(self, service: str, kind: str, option: str, **options: Any) -> None:
        self._service, self._kind, self._option, self._options = service, kind, option, options
        self._made: dict[str, Connection] = {}

    def to(self, name: str) -> Connection:
        """The one for a resource."""
        if name not in self._made:
            options = {**self._options, "region": region_of(name) or self._options.get("region", "")}
            resource = Resource(
                service=self._service, kind=self._kind, name=name, option=self._option, region=options["region"]
            )
            self._made[name] = Connection(resource, **options)
        return self._made[name]

    def close(self) -> None:
        """Close them all."""
        for connection in self._made.values():
            connection.close()


class StepFunctionsHistories:
    """Executions of state machines, by the ARN of the machine. An ARN names its own region."""

    def __init__(
        self, *, region: str = "", endpoint_url: str = "", profile: str = "", attempts: int = 4, session: Any = None
    ) -> None:
        self._connections = _Connections(
            "StepFunctions",
            "state machine",
            "--state-machine-arn",
            region=region,
            endpoint_url=endpoint_url,
            profile=profile,
            attempts=attempts,
            session=session,
        )
        self._machines: dict[str, str] = {}

    def type_of(self, machine: str) -> str:
        """Of the machine as it is now."""
        if ":stateMachine:" not in machine:
            raise ConfigError(f"{machine[:100]!a} is no ARN of a state machine.", hint="Set --state-machine-arn.")
        call = self._call(machine, "Describing the state machine", "DescribeStateMachine", machine)
        with self._connections.to(machine).asking(call) as states:
            return str(states.describe_state_machine(stateMachineArn=machine)["type"])

    def runs(self, machine: str, token: str | None = None) -> Page[Run]:
        """The newest first, as the service gives them."""
        call = self._call(machine, "Listing executions", "ListExecutions", machine)
        with self._connections.to(machine).asking(call) as states:
            answer = states.list_executions(stateMachineArn=machine, maxResults=PAGE, **_after(token))
            runs = tuple(_run(found) for found in answer["executions"])
        self._machines |= {found.arn: machine for found in runs}
        return Page(values=runs, following=answer.get("nextToken"))

    def run(self, machine: str, name: str) -> Run:
        """By the ARN that it must have."""
        arn = f"{machine.replace(':stateMachine:', ':execution:', 1)}:{name}"
        self._machines[arn] = machine
        call = self._call(machine, f"Describing execution {name!a}", "DescribeExecution", arn)
        with self._connections.to(machine).asking(call) as states:
            return _run(states.describe_execution(executionArn=arn))

    def events(self, arn: str, token: str | None = None) -> Page[Event]:
        """With what went in and out of each state."""
        machine = self._machine_of(arn)
        name = arn.rpartition(":")[2]
        call = self._call(machine, f"Reading the history of execution {name!a}", "GetExecutionHistory", arn)
        with self._connections.to(machine).asking(call) as states:
            answer = states.get_execution_history(
                executionArn=arn, maxResults=PAGE, includeExecutionData=True, **_after(token)
            )
            return Page(values=tuple(answer["events"]), following=answer.get("nextToken"))

    def map_run(self, arn: str) -> MapRun:
        """Its `itemCounts`."""
        machine = self._machine_of(arn)
        call = self._call(machine, "Describing a map run", "DescribeMapRun", arn)
        with self._connections.to(machine).asking(call) as states:
            counts = states.describe_map_run(mapRunArn=arn)["itemCounts"]
            return MapRun(total=int(counts["total"]), succeeded=int(counts["succeeded"]))

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _machine_of(self, arn: str) -> str:
        """The machine of an execution or a map run: its ARN has the machine's name in it."""
        if arn in self._machines:
            return self._machines[arn]
        start, _, rest = arn.partition(":execution:" if ":execution:" in arn else ":mapRun:")
        return f"{start}:stateMachine:{rest.partition(':')[0].partition('/')[0]}"

    def _call(self, machine: str, what: str, action: str, arn: str) -> Call:
        resource = self._connections.to(machine).resource
        return Call(what=what, action=f"states:{action}", arn=arn, resource=resource)


def _run(found: Any) -> Run:
    stopped = found.get("stopDate")
    return Run(
        arn=found["executionArn"],
        name=found["name"],
        status=found["status"],
        started_at=found["startDate"].astimezone(UTC),
        stopped_at=stopped.astimezone(UTC) if stopped is not None else None,
    )


def _after(token: str | None) -> dict[str, str]:
    return {"nextToken": token} if token else {}


class CloudWatchLogs:
    """Lines of log groups, by their names."""

    def __init__(
        self, *, region: str = "", endpoint_url: str = "", profile: str = "", attempts: int = 4, session: Any = None
    ) -> None:
        self._connections = _Connections(
            "Logs",
            "log group",
            "--log-group",
            region=region,
            endpoint_url=endpoint_url,
            profile=profile,
            attempts=attempts,
            session=session,
        )

    def kept_days(self, group: str) -> int | None:
        """Its `retentionInDays`."""
        call = self._call(group, "Describing the log group", "DescribeLogGroups")
        with self._connections.to(group).asking(call) as logs:
            found = logs.describe_log_groups(logGroupNamePrefix=group, limit=50)["logGroups"]
        mine = [each for each in found if each["logGroupName"] == group]
        if not mine:
            raise ConfigError(
                f"There is no {call.resource}.", hint="Set --log-group to the group of the mark function, or --region."
            )
        days = mine[0].get("retentionInDays")
        return int(days) if days else None

    def lines(
        self, group: str, *, containing: str, since: datetime, until: datetime, token: str | None = None
    ) -> Page[LogLine]:
        """One call of `FilterLogEvents`, with the text as one quoted term."""
        call = self._call(group, "Reading log lines", "FilterLogEvents")
        quoted = '"' + containing.replace("\\", "\\\\").replace('"', '\\"') + '"'
        with self._connections.to(group).asking(call) as logs:
            answer = logs.filter_log_events(
                logGroupName=group,
                filterPattern=quoted,
                startTime=_millis(since),
                endTime=_millis(until),
                limit=LINES_PAGE,
                **_after(token),
            )
            lines = [
                LogLine(at=datetime.fromtimestamp(each["timestamp"] / 1000, UTC), message=each["message"])
                for each in answer["events"]
            ]
        return Page(values=tuple(lines), following=answer.get("nextToken"))

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _call(self, group: str, what: str, action: str) -> Call:
        resource = self._connections.to(group).resource
        return Call(what=what, action=f"logs:{action}", arn=f"log-group:{group}:*", resource=resource)


def _millis(when: datetime) -> int:
    return max(0, int(when.timestamp() * 1000))


if TYPE_CHECKING:
    _histories: type[Histories] = StepFunctionsHistories
    _logs: type[Logs] = CloudWatchLogs
