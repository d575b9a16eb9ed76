"""Ablation tables of the paper and of other work: cells as settings, and claims."""
