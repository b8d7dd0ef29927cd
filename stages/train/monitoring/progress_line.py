"""What a person sees while a model trains: one line in the terminal, curves in MLflow."""

from typing import Any

from transformers import ProgressCallback, TrainerCallback

from stages.core.tracking.tracker import Tracker
from stages.train.monitoring.training_progress import Journal


class OneLine(ProgressCallback):
    """The progress bar (steps, time left) with epoch, losses and tokens a second behind it."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._shown: dict[str, str] = {}

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the numbers that just came in."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            self._shown |= {key: f"{logs[key]:.3f}" for key in ("loss", "eval_loss") if key in logs}
            self._shown |= {"epoch": f"{state.epoch:.2f}", "tokens/s": f"{self._journal.rate:,.0f}"}
            self.training_bar.set_postfix(self._shown, refresh=False)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Nor has a step of it."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The evaluation has no bar of its own."""


class Live(TrainerCallback):
    """Send every logged number to MLflow without waiting for it."""

    def __init__(self, tracker: Tracker, journal: Journal, prefix: str = "") -> None:
        """Put `prefix` before the names: curves of several seeds in one run stay apart."""
        self._tracker = tracker
        self._journal = journal
        self._prefix = prefix

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Log the numbers of this step, with the rate so far."""
        numbers = {
            key: float(value)
            for key, value in (logs or {}).items()
            if isinstance(value, int | float)
        }
        if self._journal.tokens:
            numbers |= {"tokens": self._journal.tokens, "tokens_per_second": self._journal.rate}
        named = {self._prefix + key: value for key, value in numbers.items()}
        self._tracker.log(named, state.global_step)
