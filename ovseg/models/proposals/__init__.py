"""Masks from anything else: SAM, cuts and clusters of patches, superpixels."""
