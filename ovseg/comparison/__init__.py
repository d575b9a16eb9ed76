"""Models held against each other over images and seeds."""
