"""What is counted over the whole of training, also where it was interrupted."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stages.train.monitoring.divergence import Watch


class Journal:
    """Tokens, losses and seconds so far. A checkpoint keeps them, so that a resumed run goes on counting."""

    def __init__(self, ids: Sequence[str]) -> None:
        """Start at nothing; `ids` are those of the training records, for messages."""
        self.watch = Watch(ids)
        self.tokens = 0
        self.loss = 0.0
        """Of all steps together."""
        self.resumed_at: list[int] = []
        """Steps at which the run went on after an interruption."""
        self._before = 0.0
        self._running_since: float | None = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training, evaluations left out."""
        since = (
            time.perf_counter() - self._running_since if self._running_since is not None else 0.0
        )
        return self._before + since

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / max(self.seconds, 1e-9)

    def start(self) -> None:
        """Begin to count the seconds here: what was before was loading."""
        self._running_since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the seconds of the block."""
        self._before = self.seconds
        self._running_since = None
        try:
            yield
        finally:
            self.start()

    def dump(self) -> dict[str, Any]:
        """All of it, for JSON."""
        kept = {
            "tokens": self.tokens,
            "loss": self.loss,
            "resumed_at": self.resumed_at,
            "seconds": self.seconds,
        }
        return {**kept, "watch": self.watch.dump()}

    def load(self, kept: dict[str, Any], step: int) -> None:
        """Go on from what `dump` gave at a step."""
        self.tokens = kept["tokens"]
        self.loss = kept["loss"]
        self._before = kept["seconds"]
        self.resumed_at = [*kept["resumed_at"], step]
        self.watch.load(kept["watch"])
