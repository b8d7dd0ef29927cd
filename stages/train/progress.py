"""What a person sees while a model trains: one line in the terminal, curves in MLflow."""

from typing import Any

from transformers import ProgressCallback, TrainerCallback

from stages.core.tracking import Tracker


class OneLine(ProgressCallback):
    """The progress bar with the last losses behind it instead of a line for each."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the numbers that just came in."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            shown = {key: f"{logs[key]:.3f}" for key in ("loss", "eval_loss") if key in logs}
            self.training_bar.set_postfix(shown, refresh=False)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The evaluation has no bar of its own."""


class Live(TrainerCallback):
    """Send every logged number to MLflow without waiting for it."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Log the numbers of this step."""
        numbers = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, int | float)}
        self._tracker.log(numbers, state.global_step)
