"""Pairs of a noun and a masked region: matched, published as a table, curated by SQL."""
