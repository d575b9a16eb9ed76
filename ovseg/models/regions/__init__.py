"""Regions of masks as CLIP sees them, and their embedders."""
