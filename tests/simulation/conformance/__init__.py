"""What the simulator claims of each service: one named case a behaviour, run wherever that service is.

A body is written once, on the ports, and knows not where it runs. `docs/fidelity.md` is made from what stands here.
"""
