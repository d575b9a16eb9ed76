"""What stands in the scenes, drawn by hand-written functions."""
