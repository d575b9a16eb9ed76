"""Prefect tasks: thin wrappers with retries and progress around the library, and tracking."""
