"""Show the progress of training as one line in the terminal and as curves in MLflow."""

from typing import Any

from transformers import ProgressCallback, TrainerCallback

from stages.core.tracking.tracker import Tracker
from stages.train.monitoring.training_progress import TrainingProgress


class ProgressLine(ProgressCallback):
    """Show a progress bar with steps, time left, epoch, losses and tokens per second."""

    def __init__(self, progress: TrainingProgress) -> None:
        super().__init__()
        self._progress = progress
        self._shown: dict[str, str] = {}

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the numbers that were just logged."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            self._shown |= {key: f"{logs[key]:.3f}" for key in ("loss", "eval_loss") if key in logs}
            self._shown |= {
                "epoch": f"{state.epoch:.2f}",
                "tokens/s": f"{self._progress.rate:,.0f}",
            }
            self.training_bar.set_postfix(self._shown, refresh=False)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show no bar for a step of an evaluation."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show no bar for an evaluation."""


class MetricsCallback(TrainerCallback):
    """Send every logged number to MLflow without waiting for it."""

    def __init__(self, tracker: Tracker, progress: TrainingProgress, prefix: str = "") -> None:
        """Set the tracker and a prefix that separates the curves of several seeds in one run."""
        self._tracker = tracker
        self._progress = progress
        self._prefix = prefix

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Log the numbers of this step, the tokens so far and the tokens per second."""
        numbers = {
            key: float(value)
            for key, value in (logs or {}).items()
            if isinstance(value, int | float)
        }
        if self._progress.tokens:
            numbers |= {"tokens": self._progress.tokens, "tokens_per_second": self._progress.rate}
        named = {self._prefix + key: value for key, value in numbers.items()}
        self._tracker.log(named, state.global_step)
