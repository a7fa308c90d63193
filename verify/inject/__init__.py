"""Faults planted on purpose in a copy of a root, so that an alarm can be tested before it is needed."""
