"""Count tokens, losses and seconds over the whole training, even if it is interrupted."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stages.train.monitoring.divergence import DivergenceGuard


class TrainingProgress:
    """Tokens, losses and seconds so far.

    A checkpoint stores these numbers so that a resumed run continues to count from them.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        """Start at zero. `ids` are the ids of the training records for error messages."""
        self.divergence_guard = DivergenceGuard(ids)
        self.tokens = 0
        self.loss = 0.0
        """The sum of the losses of all steps."""
        self.resumed_at: list[int] = []
        """The steps at which the run resumed after an interruption."""
        self._before = 0.0
        self._running_since: float | None = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Return the seconds of training without evaluations."""
        since = (
            time.perf_counter() - self._running_since if self._running_since is not None else 0.0
        )
        return self._before + since

    @property
    def rate(self) -> float:
        """Return the tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)

    def start(self) -> None:
        """Start the clock, so that loading the model is not counted."""
        self._running_since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock during the block."""
        self._before = self.seconds
        self._running_since = None
        try:
            yield
        finally:
            self.start()

    def dump(self) -> dict[str, Any]:
        """Return the state for JSON."""
        kept = {
            "tokens": self.tokens,
            "loss": self.loss,
            "resumed_at": self.resumed_at,
            "seconds": self.seconds,
        }
        return {**kept, "divergence_guard": self.divergence_guard.dump()}

    def load(self, kept: dict[str, Any], step: int) -> None:
        """Restore the state that `dump` returned and record the step at which the run resumes."""
        self.tokens = kept["tokens"]
        self.loss = kept["loss"]
        self._before = kept["seconds"]
        self.resumed_at = [*kept["resumed_at"], step]
        self.divergence_guard.load(kept["divergence_guard"])
