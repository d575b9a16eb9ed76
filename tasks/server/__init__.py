"""The Prefect server that a run starts or finds."""
