"""Comparisons with other runtimes, and benchmarks of single tasks."""
