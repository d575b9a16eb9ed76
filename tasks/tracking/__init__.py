"""MLflow: runs, parameters, metrics, descriptions, the model registry."""
