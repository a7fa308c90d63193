"""`python -m embedpipe` is the command `embedpipe`."""

from embedpipe.cli import main

main()
