"""Mask proposals of images, from networks or ground truth."""
