"""Masks from other sources: SAM, cuts and clusters of patches, superpixels."""
