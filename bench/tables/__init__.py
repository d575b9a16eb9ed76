"""Benchmarks of the pair tables."""
