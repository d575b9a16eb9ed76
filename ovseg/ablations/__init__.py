"""Ablations: named tables of cells, each a separate run; their comparison, claims and page."""
