"""The command line. Importing it costs little more than click; each command imports what it needs when it is called."""

from embedpipe.cli.app import cli, main

__all__ = ["cli", "main"]
