"""Pure stages: values in, values out, one module a step of the flow. No port, clock or file is touched here.

`streams` holds the one primitive for large sorted inputs. Stages that work on columns need the extra `vectors`; importing
this package does not.
"""
