"""OpenAI's Batch API over HTTP in front of any BatchProvider, with failures from a table: what `embedpipe serve` starts."""
