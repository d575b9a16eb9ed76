"""Scores: confusion matrices, benchmark runs, and pairs held against ground truth."""
