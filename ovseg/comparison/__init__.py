"""Comparison of models over images and seeds."""
