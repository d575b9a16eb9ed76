"""Commands that need no flow. Heavy imports are inside the commands."""
