"""Exhibits of several benchmarks beside each other."""
