"""Captions and their images, in all supported formats."""
