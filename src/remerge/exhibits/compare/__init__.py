"""Exhibits that compare several benchmarks."""
