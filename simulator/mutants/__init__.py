"""Planted bugs: realistic changes of the pipeline, each against one guarantee, that the simulator has to find."""
