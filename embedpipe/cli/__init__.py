"""The command line. Importing it costs nothing; each command imports what it needs when it is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from embedpipe.cli.app import cli

__all__ = ["cli", "main"]


def main() -> NoReturn:
    """Entry point of the console script. Ctrl-C ends in one sentence also while modules are being imported."""
    try:
        from embedpipe.cli import app

        app.main()
    except KeyboardInterrupt:
        os.write(2, b"error: Interrupted. Run the same command again to go on.\n")
        os._exit(130)  # as errors.EXIT_INTERRUPTED; nothing is imported here, that would be interrupted again


def __getattr__(name: str) -> Any:
    if name != "cli":
        raise AttributeError(f"module 'embedpipe.cli' has no attribute {name!r}")
    from embedpipe.cli.app import cli

    return cli
