"""Benchmarks: images with label maps, their vocabularies, and how published ones are prepared."""
