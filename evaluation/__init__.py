"""Benchmarks: data sets, metrics, runs and reports."""
