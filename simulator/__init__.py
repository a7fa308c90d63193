"""The pipeline on virtual time, from a seed, under faults; in `serving`, a provider over HTTP to develop and test against.

This package imports `verify` and `embedpipe`; neither of them imports it.
"""
