"""The Prefect server that a run starts for itself, or finds."""
