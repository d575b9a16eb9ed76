"""Ablations: named tables of cells, each a run of its own; their comparison, claims and page."""
