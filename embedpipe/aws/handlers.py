"""One Lambda handler a step, thin: the event in, the step, its output out.

A failure is raised and never returned as a result, so that the state machine's `Retry` and `Catch` see it under its class name.
Settings come from the environment and from `embedpipe.toml` beside the code; a container keeps its connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from embedpipe.steps.call import CALLS
from embedpipe.steps.context import Context

Handler = Callable[[Mapping[str, Any], object], dict[str, Any]]


def handler(name: str, context: Callable[[], Context]) -> Handler:
    """The handler of one step. `context` is called when the first event comes, and again for none."""

    def handle(event: Mapping[str, Any], _: object = None) -> dict[str, Any]:
        return CALLS[name](context(), event)

    handle.__name__ = handle.__qualname__ = name
    return handle


@cache
def _context() -> Context:
    from embedpipe.aws import telemetry
    from embedpipe.backends.system import SystemClock
    from embedpipe.config import Config
    from embedpipe.pipeline import Pipeline

    telemetry.configure()
    config = Config.load()
    return Pipeline.open(config=config, on_event=telemetry.to_log(config.kind, SystemClock().now)).context


submit = handler("submit", _context)
create_pending = handler("create_pending", _context)
list_pending = handler("list_pending", _context)
poll = handler("poll", _context)
normalize = handler("normalize", _context)
split = handler("split", _context)
process_chunk = handler("process_chunk", _context)
final_merge = handler("final_merge", _context)
mark_complete = handler("mark_complete", _context)
