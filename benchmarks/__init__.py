"""Benchmarks: ratios taken in one run."""
