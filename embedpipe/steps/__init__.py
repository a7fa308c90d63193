"""The shell: gather, decide, apply. One module a step, named as in `stages`; the only callers of the ports.

Every step may be repeated or run twice at once: conditional writes and the decisions in `stages` make the outcome one.
"""
