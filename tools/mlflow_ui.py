"""Start the MLflow UI for this machine alone, with a view of which execution is best and why.

    python -m tools.mlflow_ui                # the tracking store of params.yaml
    python -m tools.mlflow_ui --port 5001

Prints the address of the view.
"""

import argparse
import os
import sys

from omegaconf import OmegaConf

from stages.core.config.schema import parse
from stages.core.errors import UserError, printable
from stages.core.storage.locks import LockTimeoutError
from stages.core.tracking.runs import get_experiment, lock_store, tracking_uri
from stages.core.tracking.view import get_address, save_view

HOST = "127.0.0.1"


def main() -> None:
    """Save the view, print its address and replace this process with the server."""
    parser = argparse.ArgumentParser(
        "python -m tools.mlflow_ui", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port
    try:
        config = parse(OmegaConf.load("params.yaml"))  # type: ignore[arg-type]
    except (UserError, FileNotFoundError) as error:
        sys.exit(printable(f"mlflow_ui: {error}"))
    from mlflow import MlflowClient

    uri = tracking_uri(config.tracking)
    try:
        with lock_store(uri):
            client = MlflowClient(uri)
            experiment = get_experiment(client, config.tracking.experiment, uri)
    except LockTimeoutError as error:
        sys.exit(f"mlflow_ui: {error}")
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
