"""Pixels embedded in CLIP's space (LSeg)."""
