"""Benchmarks: images with label maps, their vocabularies, and preparation of published ones."""
