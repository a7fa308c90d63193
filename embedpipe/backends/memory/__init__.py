"""Backends that live in this process and end with it: for tests, the simulator and trying things out.

Import the submodule you need: `objects`, `table`, `clock`, `provider` or `vectors`. Only the last two need numpy.
"""
