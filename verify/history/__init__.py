"""In which state of one execution a value got lost, from the history of that execution alone."""
