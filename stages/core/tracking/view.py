"""The view of the MLflow UI that answers which execution is best, and why.

MLflow keeps a shared view in a tag of the experiment and opens it by the key in the address. The name of the tag, the
keys of the state and the form of columns are those of the UI of MLflow 3 (`viewStateShareKey`,
`mlflow.sharedViewState.`).
"""

import json
from typing import TYPE_CHECKING

from stages.core.tracking.runs import PREFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "verdict"
TAG = "mlflow.sharedViewState." + KEY
DECISIVE = (
    "difference",
    "difference_low",
    "difference_high",
    "prompt_tokens",
    "cost_of_1000_requests",
    "training_seconds",
    "general_suite_lost",
)
"""The metrics of an execution's run beside `primary.<arm>`, in the order of the columns."""
CANDIDATE = "primary.candidate"
MOST = 100  # of the newest executions that are asked for their arms


def save_view(client: "MlflowClient", experiment: str) -> None:
    """Save the view: verdict, primary metric of each arm, what decides, the best execution first.

    Args:
        client: of the tracking server.
        experiment: its id. The columns of arms are those that its newest executions have.
    """
    runs = client.search_runs([experiment], "metrics.`difference` > -1000000000", max_results=MOST)
    found = dict.fromkeys(
        key for run in runs for key in run.data.metrics if key.startswith("primary.")
    )
    arms = sorted(set(found) - {CANDIDATE})
    tags = [f"tags.`{PREFIX}{key}`" for key in ("verdict", "primary_metric")]
    columns = [*tags, *(f"metrics.`{key}`" for key in (CANDIDATE, *DECISIVE, *arms))]
    state = {
        "searchFilter": f"tags.`{PREFIX}key` LIKE '%'",  # executions alone, without the runs of their stages
        "orderByKey": f"metrics.`{CANDIDATE}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsExpanded": {},
    }
    client.set_experiment_tag(experiment, TAG, json.dumps(state))


def get_address(host: str, port: int, experiment: str) -> str:
    """The address of the view."""
    return f"http://{host}:{port}/#/experiments/{experiment}/runs?viewStateShareKey={KEY}"
