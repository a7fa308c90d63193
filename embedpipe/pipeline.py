"""The local runner: a `Pipeline` submits records and walks the ingest flow in this process, with threads as fan-out.

It holds no decision of its own: the order is `flow.INGEST`, the work is in `steps`, the only repetition is `retry`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import attrs

from embedpipe import events, flow, retry
from embedpipe.assembly import Backends
from embedpipe.config import Config, build
from embedpipe.errors import (
    CorruptData,
    Incomplete,
    Interrupted,
    InvalidInput,
    MisuseError,
    ServiceError,
)
from embedpipe.lifecycle import OPEN, Status
from embedpipe.model import BatchRow, Claim, Hit, Kind, Record, kind_named
from embedpipe.reports import Estimate, IngestReport, OpenBatch, RunReport, StatusReport, SubmitReport
from embedpipe.retry import RetryPolicy
from embedpipe.stages.submit import Cut
from embedpipe.steps import context, journal
from embedpipe.steps.call import CALLS
from embedpipe.steps.context import Context
from embedpipe.steps.merge import check_published
from embedpipe.wire import MarkCounts, Marked, Rejected, Result, SubmitCounts, decode

T = TypeVar("T")

ROWS_AT_ONCE: Final = 1_000
"""[ours] Rows read in one go; bounds the memory of `status`."""
FAILED_EXECUTIONS_MAX: Final = 3
"""[ours] Executions in a row in which every poll failed, before `run` gives up and says why."""


class Pipeline:
    """Submit and ingest for one kind, in this process. Thread-safe; use it as a context manager."""

    def __init__(self, backends: Backends, config: Config, *, kind: Kind, on_event: events.OnEvent = events.ignore):
        self._backends = backends
        self._config = config
        self._stopping = threading.Event()
        self._tally = _Tally(on_event)
        self.context = Context(
            kind=kind,
            model=config.model,
            objects=backends.objects,
            table=backends.table,
            provider=backends.provider,
            vectors=backends.vectors,
            clock=backends.clock,
            layout=config.layout,
            limits=config.limits,
            policy=config.policy,
            count_tokens=getattr(backends.provider, "count_tokens", None),
            on_event=self._tally,
            checkpoint=self._checkpoint,
        )
        """What the steps are given."""
        context.root_id(self.context)  # refuses a root of a newer version before anything else

    @classmethod
    def open(
        cls,
        root_or_toml: str | Path | None = None,
        *,
        kind: Kind | str | None = None,
        on_event: events.OnEvent = events.ignore,
        config: Config | None = None,
    ) -> Pipeline:
        """Open a root directory or an `embedpipe.toml`. Makes what is missing."""
        from embedpipe.backends.system import SystemClock

        if config is None:
            path = Path(root_or_toml) if root_or_toml is not None else None
            is_file = path is not None and path.suffix == ".toml"
            config = Config.load(file=path) if is_file else Config.load(path)
        served = kind if isinstance(kind, Kind) else kind_named(kind or config.kind)
        backends = build(config, clock=SystemClock())
        try:
            return cls(backends, config, kind=served, on_event=on_event)
        except BaseException:
            backends.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the backends."""
        self._backends.close()

    def stop(self) -> None:
        """Ask `submit`, `ingest` and `run` to stop at the next safe boundary: they raise `Interrupted`."""
        self._stopping.set()

    def _checkpoint(self) -> None:
        if self._stopping.is_set():
            raise Interrupted("Stopped as asked.", hint="Nothing is lost; run the same command again to go on.")

    # --- the verbs -------------------------------------------------------------------------------------------------

    def submit(self, records: Iterable[Record], *, execution_id: str | None = None) -> SubmitReport:
        """Claim what is new of `records` and create its batches. Repeatable with one `execution_id`."""
        from embedpipe.steps.submit import submit

        name = execution_id or self.context.clock.new_id()
        # The records can be read once only: what fails after that is taken up by the next submit or ingest.
        counts: SubmitCounts = submit(self.context, records, execution_id=name)
        fields = {field.name for field in attrs.fields(SubmitReport)}
        return SubmitReport(**{key: value for key, value in counts.to_dict().items() if key in fields})

    def ingest(self, *, execution_id: str | None = None) -> IngestReport:
        """One execution of the ingest flow. Repeatable with one `execution_id`."""
        name = execution_id or self.context.clock.new_id()
        before = len(self._tally.ambiguous)
        failures = _Failures()
        state = flow.walk(
            flow.INGEST,
            {"execution_id": name},
            invoke=self._invoke,
            fan_out=lambda step, items, work: self._fan_out(step, items, work, failures, name),
            read_items=self._read_items,
        )
        return self._ingest_report(name, state, failures.count, len(self._tally.ambiguous) - before)

    def run(self, records: Iterable[Record] = (), *, timeout_s: float | None = None) -> RunReport:
        """Submit, then ingest until every batch of this kind has ended.

        Raises `Incomplete` after `timeout_s`, and what stands in the way where no execution gets any further.
        """
        clock = self.context.clock
        began = clock.monotonic_s()
        ambiguous = len(self._tally.ambiguous)
        submitted = self.submit(records)
        reports: list[IngestReport] = []
        while self._unfinished():
            self._checkpoint()
            reports.append(self.ingest())
            self._raise_if_stuck(reports)
            if timeout_s is not None and clock.monotonic_s() - began >= timeout_s:
                raise Incomplete(
                    f"{reports[-1].waiting} batches are still open after {timeout_s:.0f} s.",
                    hint="Run again to go on.",
                )
            if not (reports[-1].marked or reports[-1].created) and reports[-1].waiting:
                self._pause(self._config.run.poll_interval_s)
        base = context.read_base(self.context)
        check_published(self.context, base)
        return RunReport(
            records=submitted.records,
            skipped=submitted.skipped,
            batches=submitted.batches,
            embedded=sum(report.vectors for report in reports),
            rejected=sum(report.rejected for report in reports),
            reasons=dict(sum((Counter(report.reasons) for report in reports), Counter[str]())),
            retry_batches=sum(report.retry_batches for report in reports),
            ambiguous_creates=len(self._tally.ambiguous) - ambiguous,
            executions=len(reports),
            elapsed_s=clock.monotonic_s() - began,
            version=base.version,
            collection_count=base.snapshot.count if base.snapshot else 0,
        )

    def estimate(self, records: Iterable[Record]) -> Estimate:
        """How `records` would be cut, without claiming, creating or paying for anything."""
        from embedpipe.stages.submit import new_drafts, pieces
        from embedpipe.steps.spill import sorted_drafts, streams
        from embedpipe.steps.submit import within_limits

        cuts: list[Cut] = []
        with (
            self.context.scratch() as folder,
            sorted_drafts(within_limits(self.context, records), self.context.model, folder) as runs,
            streams(runs) as drafts,
        ):
            tables = (kept for kept, _ in new_drafts(drafts, []))
            for piece in pieces(tables, self.context.model, self.context.limits):
                if piece.cut is not None:
                    cuts.append(piece.cut)
        requests = sum(cut.requests for cut in cuts)
        return Estimate(
            records=requests,
            requests=requests,
            batches=len(cuts),
            tokens_max=sum(cut.tokens_max for cut in cuts),
            bytes=sum(cut.file_bytes for cut in cuts),
            cuts=tuple(cuts),
        )

    def status(self) -> StatusReport:
        """How many batches are in which state, which are open, and what is published."""
        ctx = self.context
        counts = dict.fromkeys(map(str, Status), 0)
        still_open = []
        for row in self._rows(Status):
            counts[row.status] += 1
            if row.status in OPEN:
                still_open.append(row)
        base = context.read_base(ctx)
        return StatusReport(
            counts=counts,
            open=tuple(self._open_batch(row) for row in sorted(still_open, key=_age)),
            version=base.version,
            collection_count=base.snapshot.count if base.snapshot else 0,
        )

    def search(self, text: str, k: int = 5) -> list[Hit]:
        """The `k` records nearest in meaning to `text`, nearest first; none where nothing is published."""
        ctx = self.context
        if not text.strip():
            raise InvalidInput("There is nothing to search for.", hint="Give a question or some words.")
        base = context.read_base(ctx)
        if base.version is None:
            return []
        vector = self._backends.embedder.embed([text], model=ctx.model.name, dimensions=ctx.model.dimensions)[0]
        with ctx.vectors.reading(ctx.kind.database, ctx.kind.collection, version=base.version) as collection:
            return collection.search(vector, k)

    def _unfinished(self) -> bool:
        """Whether a batch is open, or a merge that somebody died in is to be finished."""
        return bool(self.open_rows()) or journal.to_finish(self.context)

    def open_rows(self) -> tuple[BatchRow, ...]:
        """Rows of this kind that are not terminal, as the table itself says, oldest claim first."""
        return tuple(sorted((row for row in self._rows(OPEN) if row.status in OPEN), key=_age))

    def _rows(self, statuses: Iterable[Status]) -> Iterator[BatchRow]:
        """Rows of this kind that the index has under these statuses, each once and as the table itself says."""
        table, kind = self.context.table, self.context.kind
        names = iter(
            dict.fromkeys(name for status in sorted(statuses) for name in table.by_status(kind.batch_type, status))
        )
        while block := list(islice(names, ROWS_AT_ONCE)):
            yield from (row for row in context.healthy_rows(self.context, block).values() if row.serves(kind))

    # --- the engine ------------------------------------------------------------------------------------------------

    @property
    def _retry(self) -> RetryPolicy:
        return self._config.retry

    def _invoke(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        self._checkpoint()
        return retry.call(lambda: CALLS[name](self.context, event), self._retry, self.context.clock)

    def _fan_out(
        self,
        step: flow.Step,
        items: Sequence[Mapping[str, Any]],
        work: Callable[[int], T],
        failures: _Failures,
        execution_id: str,
    ) -> list[T | None]:
        """Threads. One iteration's failure is its own: it is reported and gives None."""

        def one(at: int) -> T | None:
            try:
                output = work(at)
            except (ServiceError, MisuseError, CorruptData) as error:
                failures.add(step.name, error)
                self._tally(events.ItemFailed(execution_id=execution_id, step=step.name, index=at, error=str(error)))
                return None
            self._tally(events.StepFinished(execution_id=execution_id, step=step.name, index=at))
            return output

        self._tally(events.StepStarted(execution_id=execution_id, step=step.name, items=len(items)))
        if not items:
            return []
        with ThreadPoolExecutor(min(self._config.run.threads, len(items)), thread_name_prefix="embedpipe") as pool:
            return list(pool.map(one, range(len(items))))

    def _read_items(self, stored: str, execution_id: str) -> Sequence[Mapping[str, Any]]:
        key: str = getattr(self.context.layout, stored)(execution_id)
        items: Sequence[Mapping[str, Any]] = decode(self.context.objects.get(key).data, key)
        return items

    # --- reports ---------------------------------------------------------------------------------------------------

    def _ingest_report(self, name: str, state: Mapping[str, Any], failed: int, ambiguous: int) -> IngestReport:
        ctx = self.context
        counts = MarkCounts.load(state["mark_result"], "mark_result")
        key = ctx.layout.poll_results_key(name)
        results = {result.batch_id: result for result in Result.load_many(ctx.objects.get(key).data, key)}
        key = ctx.layout.marked_key(name)
        marks = Marked.load(ctx.objects.get(key).data, key).marks
        marked = [mark for mark in marks if mark.outcome == "marked"]
        return IngestReport(
            execution_id=name,
            listed=counts.extracted,
            created=state["submit_result"]["created"],
            marked=counts.batches_marked,
            waiting=len(self.open_rows()),
            vectors=sum(results[mark.batch_id].embedding_count for mark in marked),
            rejected=sum(results[mark.batch_id].rejected_count or 0 for mark in marked),
            reasons=self._reasons([results[mark.batch_id] for mark in marked]),
            retry_batches=sum(len(mark.retry_batch_ids) for mark in marked),
            ambiguous_creates=ambiguous,
            failed=failed,
            version=state["final_merge_result"]["version"],
            refusals=tuple(state["submit_result"]["refusals"]),
        )

    def _reasons(self, results: Iterable[Result]) -> dict[str, int]:
        found: Counter[str] = Counter()
        for result in results:
            if result.delta_key and result.rejected_count:
                key = result.delta_key + self.context.layout.rejected_file
                lines = self.context.objects.get(key).data.splitlines()
                found.update(Rejected.load(line, key).reason for line in lines)
        return dict(found)

    def _raise_if_stuck(self, reports: Sequence[IngestReport]) -> None:
        last = reports[-1]
        if last.refusals and not last.listed:
            raise ServiceError(
                f"{last.waiting} batches wait to be created, and can't be: {last.refusals[0]}",
                hint="Fix what it says and run again; nothing is lost.",
            )
        recent = reports[-FAILED_EXECUTIONS_MAX:]
        if len(recent) == FAILED_EXECUTIONS_MAX and all(r.failed and r.failed >= r.listed for r in recent):
            raise ServiceError(
                f"Every poll failed in {FAILED_EXECUTIONS_MAX} executions in a row: {self._tally.last_error}",
                hint="Nothing is lost; run again when it is mended.",
            )

    def _open_batch(self, row: BatchRow) -> OpenBatch:
        age_s = max(0.0, (self.context.clock.now() - row.submitted_at).total_seconds()) if row.submitted_at else None
        status = row.provider_status
        try:
            found = context.read_result(self.context, row.batch_id)
            status = found[0].batch_status if found else status
        except CorruptData:
            status = "unreadable result"
        return OpenBatch(batch_id=row.batch_id, status=str(row.status), provider_status=status, age_s=age_s)

    def _pause(self, seconds: float) -> None:
        """Sleep in short turns, so that a request to stop is heard."""
        left_s = seconds
        while left_s > 0:
            self._checkpoint()
            turn_s = min(0.25, left_s)
            self.context.clock.sleep(turn_s)
            left_s -= turn_s


def _age(row: BatchRow) -> tuple[Claim, str]:
    """Sorts the oldest claim first."""
    return row.claim, row.batch_id


class _Failures:
    """Failed iterations of polls in one execution; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self, step: str, error: Exception) -> None:
        """Count one; only polls matter here."""
        del error
        with self._lock:
            self.count += step == "poll"


class _Tally:
    """Passes events on, one at a time, and counts what the reports need."""

    def __init__(self, on_event: events.OnEvent) -> None:
        self._on_event = on_event
        self._lock = threading.Lock()
        self.ambiguous: set[str] = set()
        self.last_error = ""

    def __call__(self, event: events.RunEvent) -> None:
        with self._lock:
            if isinstance(event, events.AmbiguousCreate):
                self.ambiguous.add(event.batch_id)
            elif isinstance(event, events.ItemFailed):
                self.last_error = event.error
            self._on_event(event)


__all__ = ["Pipeline"]
