"""Read what an experiment has logged to MLflow."""


def get_runs(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("tuneproof").experiment_id])
    return {run.info.run_name: run for run in found if "mlflow.parentRunId" not in run.data.tags}


def get_files(folder, run):
    """Return the files in the folder `metrics` of a run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return {file.path for file in client.list_artifacts(run.info.run_id, "metrics")}
