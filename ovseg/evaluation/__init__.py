"""Scores: confusion matrices, benchmark runs, and mined pairs checked against ground truth."""
