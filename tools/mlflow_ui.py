"""Start the MLflow UI for this machine alone, with a view of which execution is best and why.

    python -m tools.mlflow_ui                # the tracking store of params.yaml
    python -m tools.mlflow_ui --port 5001

Prints the address of the view.
"""

import os
import sys

from stages.core.config.schema import read_params
from stages.core.entrypoint import make_parser, tool_main
from stages.core.tracking.runs import get_experiment, tracking_uri
from stages.core.tracking.store import lock_store
from stages.core.tracking.view import get_address, save_view

HOST = "127.0.0.1"


@tool_main("mlflow_ui")
def main() -> None:
    """Save the view, print its address and replace this process with the server."""
    parser = make_parser("tools.mlflow_ui", __doc__)
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port
    config = read_params()
    from mlflow import MlflowClient

    uri = tracking_uri(config.tracking)
    with lock_store(uri):
        client = MlflowClient(uri)
        experiment = get_experiment(client, config.tracking.experiment, uri)
    save_view(client, experiment)
    sys.stdout.write(f"Open {get_address(HOST, port, experiment)}\n")
    sys.stdout.flush()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    os.execvp(command[0], command)  # noqa: S606  (a fixed program, and no shell)


if __name__ == "__main__":
    main()
