"""A provider to develop and test against: `simulator.server` speaks OpenAI's Batch API in front of any BatchProvider.

This package imports `verify` and `embedpipe`; neither of them imports it.
"""
