"""A shared view of the MLflow UI that shows which execution is best, and why.

MLflow stores a shared view in a tag of the experiment and opens it by the key in the address. The
name of the tag, the keys of the state and the names of columns follow the UI of MLflow 3
(`viewStateShareKey`, `mlflow.sharedViewState.`).
"""

import json
from typing import TYPE_CHECKING

from stages.core.tracking.runs import PREFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "verdict"
TAG = "mlflow.sharedViewState." + KEY
DECISIVE = (
    "primary_difference",
    "primary_difference_low",
    "primary_difference_high",
    "prompt_tokens",
    "cost_of_1000_requests",
    "training_seconds",
    "general_suite_lost",
)
"""The metrics of an execution's run, apart from `primary.<arm>`, in the order of the columns."""
CANDIDATE = "primary.candidate"
MOST = 100  # the number of newest executions whose arms become columns


def save_view(client: "MlflowClient", experiment: str) -> None:
    """Save the view in the experiment, with the best execution first.

    Its columns are the verdict, the decisive numbers, and the primary metric of each arm that the
    newest executions have.

    Args:
        client: The client of the tracking server.
        experiment: The id of the MLflow experiment.
    """
    runs = client.search_runs(
        [experiment], "metrics.`primary_difference` > -1000000000", max_results=MOST
    )
    found = dict.fromkeys(
        key for run in runs for key in run.data.metrics if key.startswith("primary.")
    )
    arms = sorted(set(found) - {CANDIDATE})
    tags = [f"tags.`{PREFIX}{key}`" for key in ("verdict", "primary_metric")]
    columns = [*tags, *(f"metrics.`{key}`" for key in (CANDIDATE, *DECISIVE, *arms))]
    state = {
        # Only executions have this tag; the runs of their stages do not.
        "searchFilter": f"tags.`{PREFIX}key` LIKE '%'",
        "orderByKey": f"metrics.`{CANDIDATE}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsExpanded": {},
    }
    client.set_experiment_tag(experiment, TAG, json.dumps(state))


def get_address(host: str, port: int, experiment: str) -> str:
    """Return the address of the view in the MLflow UI."""
    return f"http://{host}:{port}/#/experiments/{experiment}/runs?viewStateShareKey={KEY}"
