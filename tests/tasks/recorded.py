"""What MLflow has of a run."""

from mlflow.tracking import MlflowClient

from tasks.tracking.mlflow_run import EXPERIMENT, tracking_uri


def client_of(root):
    return MlflowClient(tracking_uri(root, None))


def runs_by_name(root):
    client = client_of(root)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def artifacts(root, run_id, folder=None):
    """Names of all files of a run."""
    client, names = client_of(root), set()
    for item in client.list_artifacts(run_id, folder):
        names |= artifacts(root, run_id, item.path) if item.is_dir else {item.path}
    return names


def problems(root):
    path = root / "tracking-problems.txt"
    if not path.exists():
        return []
    return [f"MLflow run {text}" for text in path.read_text().split("MLflow run ")[1:]]
