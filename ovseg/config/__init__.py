"""Every setting of a run: presets, systems, overrides, and the configuration they make."""
