"""MLflow tracking with one run per pipeline execution and one child run per stage.

Tracking never makes a stage fail. The stages of one execution are separate processes. They find
their common parent run by a key in its tags. The parent has the whole configuration, the few
decisive numbers, and files with the numbers of every stage up to the running one. These include
stages whose outputs DVC took from its cache.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from stages.core.config.schema import Config
from stages.core.environment.lineage import data_sha256
from stages.core.environment.processes import get_runs, is_main, is_worker
from stages.core.errors import UserError
from stages.core.storage.files import read_json
from stages.core.storage.locks import LockTimeoutError
from stages.core.storage.summaries import SUMMARIES, get_summary_file
from stages.core.tracking.open_runs import end_killed_runs, note_open_runs, remove_note
from stages.core.tracking.runs import (
    PREFIX,
    data_set,
    flatten,
    get_experiment,
    get_parent,
    tracking_uri,
)
from stages.core.tracking.store import describe_failure, lock_store, set_up_mlflow
from stages.core.tracking.system_metrics import monitored

log = logging.getLogger(__name__)
T = TypeVar("T")

# The key of those numbers of a stage that go to the parent run. They are few enough for MLflow to
# show.
DECISIVE = "decisive"
STAGES = ("prepare", "baseline", "train", "evaluate", "register")


class Tracker:
    """The MLflow run of a stage and its parent run.

    After the first error of the server it logs a warning and does nothing more.
    """

    def __init__(self, config: Config, stage: str | None) -> None:
        """Open the runs.

        Args:
            config: The whole configuration.
            stage: The stage whose run is opened under the parent. None opens only the parent.
        """
        self.config = config
        self.stage = stage
        self.runs: list[str] = []
        self._steps: dict[str, int] = {}  # the last step of each live number, by its name
        self.enabled = config.tracking.enabled and is_main()
        self.failure = "tracking is disabled (tracking.enabled=false)"
        """Why tracking is not enabled, if it is not."""
        self.safely(self._open)

    @property
    def run_id(self) -> str:
        """The id of the stage's run, or of the parent if there is no stage."""
        return self.runs[-1]

    def safely(self, action: Callable[[], T]) -> T | None:
        """Run an action of MLflow; an error logs a warning and ends tracking for this stage.

        Raises:
            UserError: The action itself raised it.
        """
        if not self.enabled:
            return None
        try:
            return action()
        except Exception as error:  # any error of a server, a network or a database
            if isinstance(error, UserError) and not isinstance(error, LockTimeoutError):
                raise
            self.enabled = False
            self.failure = describe_failure(error, tracking_uri(self.config.tracking))
            log.warning("%s.", self.failure)
            log.warning("The stage continues without tracking. Its numbers are in %s/.", SUMMARIES)
            return None

    def log(self, values: dict[str, float], step: int) -> None:
        """Log live numbers to the stage's run without waiting for the server."""
        self._steps |= dict.fromkeys(values, step)
        self.safely(lambda: self._log_metrics(self.run_id, values, synchronous=False))

    def log_artifact(self, path: Path) -> None:
        """Log a file to the stage's run."""
        self.safely(lambda: self._client.log_artifact(self.run_id, str(path)))

    def set_tag(self, key: str, value: str) -> None:
        """Tag the stage's run and its parent, so that the table of executions shows the tag."""
        for run_id in self.runs:
            self.safely(lambda run_id=run_id: self._client.set_tag(run_id, PREFIX + key, value))  # type: ignore[misc]

    def find_tags(self, key: str, value: str) -> list[dict[str, str]]:
        """Return the tags of all runs of the experiment that have a tag, the oldest run first.

        The names of Tuneproof's tags are returned without their prefix. The list is empty if MLflow
        is disabled or unavailable.
        """
        return self.safely(lambda: self._find_tags(PREFIX + key, value)) or []

    def log_summary(self, values: dict[str, Any]) -> None:
        """Log the stage's headline numbers to its run, and the decisive ones to the parent."""
        self.safely(lambda: self._log_metrics(self.run_id, flatten(values)))
        self.safely(self.complete_parent)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log the use of processor, memory, disk, network and GPUs to the run during the block."""
        tracking = self.config.tracking
        with (
            monitored(self.run_id, tracking_uri(tracking), tracking.timeout)
            if self.enabled
            else nullcontext()
        ):
            yield

    def complete_parent(self) -> None:
        """Log decisive numbers and files of all stages up to this one to the parent.

        The data sets are logged to the parent and to the stage's run.
        """
        rivals = [f"rivals/{name}" for name in self.config.rivals]
        after_training = STAGES.index("train") + 1
        stages = [*STAGES[:after_training], *rivals, *STAGES[after_training:]]
        for stage in stages[: stages.index(self.stage) + 1] if self.stage else stages:
            path = get_summary_file(stage)
            if path.exists():
                self._client.log_artifact(self.runs[0], str(path), "metrics")
                self._log_metrics(self.runs[0], flatten(read_json(path).get(DECISIVE, {})))
        self._log_data_sets()

    def end(self, status: str) -> None:
        """Close the stage's run and the parent with `FINISHED` or `FAILED`."""
        self.safely(self._flush)
        if is_worker():
            return
        for run_id in self.runs:
            self.safely(lambda run_id=run_id: self._client.set_terminated(run_id, status))  # type: ignore[misc]
        if self.enabled:
            remove_note()

    def _open(self) -> None:
        import mlflow

        uri = tracking_uri(self.config.tracking)
        set_up_mlflow(uri, self.config.tracking.timeout)
        if is_worker():  # the process that launched this one opens and closes the runs
            self._client = mlflow.MlflowClient(uri)
            self.runs = get_runs()
            return
        with lock_store(uri):
            self._client = mlflow.MlflowClient(uri)
            end_killed_runs(self._client, uri)
            experiment = get_experiment(self._client, self.config.tracking.experiment, uri)
            self._experiment = experiment
            self.runs.append(
                get_parent(self._client, experiment, self.config, by_name=self.stage is not None)
            )
        if self.stage:
            tags = {"mlflow.parentRunId": self.runs[0], f"{PREFIX}stage": self.stage}
            self.runs.append(
                self._client.create_run(experiment, tags=tags, run_name=self.stage).info.run_id
            )
        note_open_runs(uri, self.runs)

    def _find_tags(self, key: str, value: str) -> list[dict[str, str]]:
        found = []
        token = None
        while True:
            query = f"tags.`{key}` = '{value}'"
            order = ["attributes.start_time ASC"]
            page = self._client.search_runs(
                [self._experiment], query, order_by=order, page_token=token
            )
            found += [run.data.tags for run in page]
            token = page.token
            if not token:
                return [
                    {name.removeprefix(PREFIX): text for name, text in tags.items()}
                    for tags in found
                ]

    def _log_metrics(self, run_id: str, values: dict[str, float], synchronous: bool = True) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        # A headline number with the name of a live number is the last point of its curve.
        metrics = [
            Metric(key, value, now, self._steps.get(key, 0)) for key, value in values.items()
        ]
        self._client.log_batch(run_id, metrics=metrics, synchronous=synchronous)

    def _log_data_sets(self) -> None:
        from mlflow.entities import DatasetInput, InputTag

        inputs = [
            DatasetInput(
                data_set(self.config.data.name, split, sha256),
                [InputTag("mlflow.data.context", split)],
            )
            for split, sha256 in data_sha256().items()
        ]
        for run_id in self.runs:
            self._client.log_inputs(run_id, datasets=inputs)

    def _flush(self) -> None:
        import mlflow

        mlflow.flush_async_logging()


@contextmanager
def track(config: Config, stage: str) -> Iterator[Tracker]:
    """Track one stage; its run ends as `FAILED` if the block raises."""
    tracker = Tracker(config, stage)
    try:
        yield tracker
    except BaseException:
        tracker.end("FAILED")
        raise
    tracker.end("FINISHED")


def complete(config: Config) -> None:
    """Log the headline numbers of every stage to the run of this execution.

    This also works if DVC ran none of the stages.
    """
    tracker = Tracker(config, None)
    tracker.safely(tracker.complete_parent)
    tracker.end("FINISHED")
