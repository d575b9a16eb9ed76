"""The things in the scenes, drawn by hand-written functions."""
