"""Captions with their images, in every format they are published in."""
