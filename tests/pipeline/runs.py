"""What an experiment has left in MLflow."""


def get_runs(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("tuneproof").experiment_id])
    return {run.info.run_name: run for run in found if "mlflow.parentRunId" not in run.data.tags}
