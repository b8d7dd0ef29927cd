"""Greedy answers in batches, for models that continuous batching cannot run.

These are models with recurrent layers or with windows, and code from a model's own files. A batch
starts when the one before it has ended, and a streamed answer comes in one piece.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from services.serve.engine import EngineError, Sampling, Step
from stages.core.models.generation import generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 16384  # of a batch, as in conf/model
STOP_SECONDS = 600.0  # a batch cannot be interrupted


class _Waiting(NamedTuple):
    prompt: list[int]
    max_new_tokens: int
    answer: "Future[list[int]]"


class BatchEngine:
    """A model in this process that answers what waits in one batch after the other."""

    draws = False
    seeds = False

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", max_running: int
    ) -> None:
        """Start the thread that runs the model."""
        self._model = model
        self._tokenizer = tokenizer
        self._most = max_running
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    async def generate(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[Step, None]:
        """Answer a prompt as `Engine.generate` describes, in a single step."""
        if not self.is_alive():
            raise EngineError("the engine has ended")
        answer: Future[list[int]] = Future()
        self._waiting.put(_Waiting(prompt, sampling.max_new_tokens, answer))
        yield Step(await asyncio.wrap_future(answer), True)

    def is_alive(self) -> bool:
        """Return whether the thread of the engine runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop the engine after the present batch."""
        self._waiting.put(None)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while batch := self._take():
            going = [each for each in batch if each.answer.set_running_or_notify_cancel()]
            if not going:
                continue
            try:
                found = generate(
                    self._model,
                    self._tokenizer,
                    [each.prompt for each in going],
                    max_new_tokens=max(each.max_new_tokens for each in going),
                    max_batch_tokens=BATCH_TOKENS,
                    title=None,
                )
            except Exception as error:  # the model's code may raise anything
                for each in going:
                    each.answer.set_exception(EngineError(type(error).__name__))
                continue
            for each, answer in zip(going, found, strict=True):
                # A greedy answer with a smaller limit is the beginning of the one with a larger.
                each.answer.set_result(list(answer.ids[: each.max_new_tokens]))

    def _take(self) -> list[_Waiting]:
        """Wait for a request, and return it with those that wait too. It is empty at the end."""
        batch: list[_Waiting] = []
        while len(batch) < self._most and (not batch or not self._waiting.empty()):
            each = self._waiting.get()
            if each is None:
                if batch:
                    self._waiting.put(None)
                return batch
            batch.append(each)
        return batch
