"""The view of the MLflow UI."""

import json

from mlflow import MlflowClient

from stages.core.tracking.view import DECISIVE, TAG, get_address, save_view


def test_the_view_has_the_arms_of_the_executions_and_what_decides(workspace):
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = client.create_experiment("x")
    run = client.create_run(experiment).info.run_id
    for key in ("primary.tuned", "primary.candidate", "primary_difference"):
        client.log_metric(run, key, 0.5)
    client.log_metric(client.create_run(experiment).info.run_id, "loss", 1.0)  # of a stage
    save_view(client, experiment)
    state = json.loads(client.get_experiment(experiment).tags[TAG])
    assert state["selectedColumns"][0] == "tags.`tuneproof.verdict`"
    metrics = [f"metrics.`{key}`" for key in ("primary.candidate", *DECISIVE, "primary.tuned")]
    assert state["selectedColumns"][2:] == metrics
    assert state["orderByAsc"] is False
    assert get_address("127.0.0.1", 5000, experiment).endswith(
        f"/experiments/{experiment}/runs?viewStateShareKey=verdict"
    )
