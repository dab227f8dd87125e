"""Metrics over plain records, pinned to the numbers of official scripts: what several benchmarks and tasks share."""
