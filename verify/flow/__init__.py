"""Static analysis of a state machine's data flow: does a field reach a state on every path? Nothing is run or called."""

from __future__ import annotations
