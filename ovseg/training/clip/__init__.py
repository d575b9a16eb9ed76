"""Adapting CLIP to masked regions."""
