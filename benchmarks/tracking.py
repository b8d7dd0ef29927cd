"""Measure what logging live metrics and system metrics to MLflow costs a training.

    python -m benchmarks.tracking

The MLflow store is in a temporary folder. For both kinds of metrics the benchmark measures the
milliseconds of CPU time, including the threads that write, and the milliseconds that the trainer
waits. It also gives their shares of the default training, which logs every `logging_steps` steps of
about 2.5 s and samples the machine every `INTERVAL` seconds. Writes
`benchmarks/results/tracking.json`.
"""

import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.table import show
from stages.core.config.schema import read_params
from stages.core.entrypoint import tool_main
from stages.core.tracking.system_metrics import INTERVAL, monitored
from stages.core.tracking.tracker import Tracker

RESULT = Path("benchmarks/results/tracking.json")
STEP_SECONDS = 2.5  # a training step of the default on two cores
CALLS = 200
SAMPLES_SECONDS = 5.0
VALUES = dict.fromkeys(
    ("loss", "grad_norm", "learning_rate", "epoch", "tokens_per_second", "eval_loss"), 0.5
)


@tool_main("tracking")
def main() -> None:
    """Measure both costs, write the results and print them as a table."""
    config = read_params()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(DVC_ROOT=folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
        tracker = Tracker(config, "train")
        every = config.train.args["logging_steps"] * STEP_SECONDS
        table = [
            {
                "what": f"Tracker.log of {len(VALUES)} values",
                **cost_of_log(tracker),
                "every s": every,
            },
            {"what": "a sample of the machine", **cost_of_sample(tracker), "every s": INTERVAL},
        ]
        tracker.end("FINISHED")
    for row in table:
        row["% of a core"] = row["core ms"] / 10 / row["every s"]
        row["% of the time"] = row["waited ms"] / 10 / row["every s"]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(table, indent=2))
    show(table)


def cost_of_log(tracker: Tracker) -> dict[str, float]:
    """Measure one call of `Tracker.log`, including the writing in the background."""
    tracker.log(VALUES, 0)  # starts the thread that writes
    used = time.process_time()
    started = time.perf_counter()
    for step in range(1, CALLS + 1):
        tracker.log(VALUES, step)
    waited = time.perf_counter() - started
    tracker.safely(tracker._flush)
    return {
        "core ms": 1000 * (time.process_time() - used) / CALLS,
        "waited ms": 1000 * waited / CALLS,
    }


def cost_of_sample(tracker: Tracker) -> dict[str, float]:
    """Measure one turn of the monitor: read, check that the run is active, write.

    The training does not wait for the monitor.
    """
    from mlflow import MlflowClient

    uri = os.environ["MLFLOW_TRACKING_URI"]
    used = time.process_time()
    with monitored(tracker.run_id, uri, patience=10, interval=0.02):
        time.sleep(SAMPLES_SECONDS)
    samples = len(
        MlflowClient(uri).get_metric_history(tracker.run_id, "system/disk_usage_percentage")
    )
    return {"core ms": 1000 * (time.process_time() - used) / samples, "waited ms": 0.0}


if __name__ == "__main__":
    main()
