"""Commands that need no flow. What is heavy is imported inside."""
