"""Prefect flows: one a file, a straight line each."""
