"""The local runner: a `Pipeline` submits records and walks the ingest flow in this process, with threads as fan-out.

It holds no decision of its own: `engine` walks the flow, the work is in `steps`, what is reported is read by `reporting`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import attrs

from embedpipe import engine, events, retry
from embedpipe.assembly import Backends
from embedpipe.config import Config, build
from embedpipe.errors import (
    CorruptData,
    Incomplete,
    Interrupted,
    InvalidInput,
    ServiceError,
)
from embedpipe.layout import safe_id
from embedpipe.model import BatchRow, Hit, Kind, Record, kind_named
from embedpipe.reporting import (
    Ended,
    ended_elsewhere,
    ingest_report,
    open_in_ledger,
    open_rows,
    status_report,
    unaccounted,
)
from embedpipe.reports import Estimate, IngestReport, RunReport, StatusReport, SubmitReport
from embedpipe.stages.creation import check_collection
from embedpipe.stages.submit import Cut
from embedpipe.steps import context, journal
from embedpipe.steps.context import Context
from embedpipe.steps.merge import check_published
from embedpipe.wire import SubmitCounts

STUCK_EXECUTIONS_MAX: Final = 3
"""[ours] Executions in a row that got no batch any further, before `run` gives up and says why."""

T = TypeVar("T")


def _all_refused(report: IngestReport) -> bool:
    """Whether nothing is left but batches that the provider refuses, for reasons that waiting does not help."""
    return 0 < report.waiting <= len(report.refusals)


class Pipeline:
    """Submit and ingest for one kind, in this process. Thread-safe; use it as a context manager."""

    def __init__(self, backends: Backends, config: Config, *, kind: Kind, on_event: events.OnEvent = events.ignore):
        self._backends = backends
        self._config = config
        self._stopping = threading.Event()
        self._tally = engine.Tally(on_event)
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
        context.check_root(self.context)  # refuses a root of a newer version before anything else

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
        return self._submit(records, safe_id(execution_id or self.context.clock.new_id(), "execution_id"))

    def _submit(
        self,
        records: Iterable[Record],
        name: str,
        on_claimed: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> SubmitReport:
        from embedpipe.steps.submit import submit

        # The records can be read once only: what fails after that is taken up by the next submit or ingest.
        counts: SubmitCounts = submit(
            self.context, records, execution_id=name, policy=self._config.retry, on_claimed=on_claimed
        )
        fields = {field.name for field in attrs.fields(SubmitReport)}
        return SubmitReport(**{key: value for key, value in counts.to_dict().items() if key in fields})

    def ingest(self, *, execution_id: str | None = None) -> IngestReport:
        """One execution of the ingest flow. Repeatable with one `execution_id`."""
        name = execution_id or self.context.clock.new_id()
        before = len(self._tally.ambiguous)
        walked = engine.ingest(
            self.context, execution_id=name, policy=self._config.retry, threads=self._config.run.threads
        )
        after = len(self._tally.ambiguous)
        return self._repeated(lambda: ingest_report(self.context, name, walked, ambiguous=after - before))

    def _repeated(self, read: Callable[[], T]) -> T:
        """A read of ours, repeated as any step is."""
        return retry.call(read, self._config.retry, self.context.clock)

    def run(self, records: Iterable[Record] = (), *, timeout_s: float | None = None) -> RunReport:
        """Submit, then ingest until every batch of this kind has ended.

        Raises `Incomplete` after `timeout_s`, and what stands in the way where no execution gets any further.
        """
        clock = self.context.clock
        began = clock.monotonic_s()
        ambiguous = len(self._tally.ambiguous)
        watched: set[str] = set()
        submitted = self._submit(records, clock.new_id(), on_claimed=watched.update)
        reports: list[IngestReport] = []
        while self._unfinished(watched):
            self._checkpoint()
            if reports and timeout_s is not None and clock.monotonic_s() - began >= timeout_s:
                raise Incomplete(
                    f"{reports[-1].waiting} batches are still open after {timeout_s:.0f} s.",
                    hint="Run again to go on.",
                )
            if reports and not (reports[-1].marked or reports[-1].created or _all_refused(reports[-1])):
                self._pause(self._config.run.poll_interval_s)
            reports.append(self.ingest())
            self._raise_if_stuck(reports)
        base = self._repeated(lambda: context.read_base(self.context))
        self._repeated(lambda: check_published(self.context, base))
        self._repeated(self._raise_if_unaccounted)
        ours = {report.execution_id for report in reports}
        elsewhere = self._repeated(lambda: ended_elsewhere(self.context, watched, ours))
        parts: list[IngestReport | Ended] = [*reports, elsewhere]
        return RunReport(
            records=submitted.records,
            skipped=submitted.skipped,
            batches=submitted.batches,
            embedded=sum(part.vectors for part in parts),
            rejected=sum(part.rejected for part in parts),
            reasons=dict(sum((Counter(part.reasons) for part in parts), Counter[str]())),
            retry_batches=sum(part.retry_batches for part in parts),
            ambiguous_creates=len(self._tally.ambiguous) - ambiguous,
            executions=len(reports),
            elapsed_s=clock.monotonic_s() - began,
            version=base.version,
            collection_count=base.snapshot.count if base.snapshot else 0,
            completed_elsewhere=elsewhere.batches,
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
        return status_report(self.context)

    def search(self, text: str, k: int = 5) -> list[Hit]:
        """The `k` records nearest in meaning to `text`, nearest first; none where nothing is published."""
        ctx = self.context
        if not text.strip():
            raise InvalidInput("There is nothing to search for.", hint="Give a question or some words.")
        try:
            text.encode()
        except UnicodeEncodeError:  # what the shell could not decode comes as lone surrogates
            raise InvalidInput("The question is not valid Unicode.", hint="Give it as UTF-8.") from None
        base = context.read_base(ctx)
        if base.version is None:
            return []
        if base.snapshot is not None:
            check_collection(ctx.kind, ctx.model, (base.snapshot.model, base.snapshot.dimensions))
        vector = self._backends.embedder.embed([text], model=ctx.model.name, dimensions=ctx.model.dimensions)[0]
        with ctx.vectors.reading(ctx.kind.database, ctx.kind.collection, version=base.version) as collection:
            return collection.search(vector, k)

    def _unfinished(self, watched: set[str]) -> bool:
        """Whether a batch is open, or a merge that somebody died in is to be finished. `watched` gains what is open."""
        ctx = self.context
        still_open = self._repeated(self.open_rows) or self._repeated(lambda: open_in_ledger(ctx))
        watched.update(row.batch_id for row in still_open)
        return bool(still_open) or self._repeated(lambda: journal.to_finish(ctx))

    def open_rows(self) -> tuple[BatchRow, ...]:
        """Rows of this kind that are not terminal, as the table itself says, oldest claim first."""
        return open_rows(self.context)

    def _raise_if_unaccounted(self) -> None:
        names = unaccounted(self.context)
        if names:
            raise CorruptData(
                f"{len(names)} open batches have no row that can be read, the first is {names[0]}; "
                "everything else is done.",
                hint="Restore their rows in the table and run again: their records are embedded by nobody else.",
            )

    def _raise_if_stuck(self, reports: Sequence[IngestReport]) -> None:
        last, recent = reports[-1], reports[-STUCK_EXECUTIONS_MAX:]
        # Twice: an input file that the provider has forgotten is uploaded again by the next execution.
        if all(map(_all_refused, reports[-2:])) and len(reports) > 1:
            more = len(set(last.refusals)) - 1
            others = f" (and {more} more reasons)" if more else ""
            raise ServiceError(
                f"{last.waiting} batches wait to be created, and can't be: {last.refusals[0]}{others}",
                hint="Fix what it says and run again; nothing is lost.",
            )
        if len(recent) < STUCK_EXECUTIONS_MAX or not all(r.listed and r.stuck >= r.listed for r in recent):
            return
        if last.unproven:
            also = f"; {last.failed} polls fail: {self._tally.last_error}" if last.failed else ""
            raise CorruptData(
                f"No batch can be completed, {STUCK_EXECUTIONS_MAX} executions in a row: {last.unproven[0]}{also}",
                hint="Put right what it says and run again; nothing is lost.",
            )
        raise ServiceError(
            f"Every poll failed in {STUCK_EXECUTIONS_MAX} executions in a row: {self._tally.last_error}",
            hint="Nothing is lost; run again when it is mended.",
        )

    def _pause(self, seconds: float) -> None:
        """Sleep in short turns, so that a request to stop is heard."""
        left_s = seconds
        while left_s > 0:
            self._checkpoint()
            turn_s = min(0.25, left_s)
            self.context.clock.sleep(turn_s)
            left_s -= turn_s


__all__ = ["Pipeline"]
