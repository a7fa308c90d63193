"""Mending what an audit has found: a plan of conditional writes, its application, and the way back."""
