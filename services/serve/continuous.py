"""Answers by transformers' continuous batching, in this process.

Requests join and leave the batch at every token. Each has its own temperature, and greedy answers
are those of `stages.core.models.generation` in float32, whatever shares their batch.
"""

import asyncio
import itertools
import logging
import queue
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingTopKLogitsWarper,
    ContinuousBatchingTopPLogitsWarper,
)

from services.serve.batches import BatchEngine
from services.serve.engine import Engine, EngineError, Sampling, Step
from services.serve.settings import ServeConfig
from stages.core.data.end_tokens import QUESTION
from stages.core.data.prompts import encode_prompt
from stages.core.models.caches import get_batching
from stages.core.models.generation import end_tokens, generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)
PROBE_TOKENS = 4
# Tokens of a page of the cache. Prompts share the whole pages of their common beginning, so pages of 16
# answered 1.2 times as many requests as pages of 64 (`python -m benchmarks.serve` on the default).
PAGE = 16
BATCH_TOKENS = 512  # of a forward pass, on a CPU as in `stages.core.models.generation`
STOP_SECONDS = 20.0
# Below it the quotients of the logits overflow, and one request would end the engine for all.
MIN_TEMPERATURE = 0.01


def start_engine(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    limit: int,
    settings: ServeConfig,
) -> Engine:
    """Start continuous batching, or batches where it cannot run the model.

    In float32 its answer to a short question must be the one of the generation that was evaluated.

    Args:
        model: The model, in evaluation mode.
        tokenizer: The model's tokenizer.
        limit: The most tokens of a prompt with its answer.
        settings: The settings of the server.
    """
    engine = None
    try:
        if get_batching(model).room < limit:
            raise ValueError("not all of its layers keep the keys and values of all tokens")
        prompt = encode_prompt(tokenizer, [QUESTION])
        options = {"max_new_tokens": PROBE_TOKENS, "max_batch_tokens": limit, "title": None}
        expected = generate(model, tokenizer, [prompt], **options)[0]  # type: ignore[arg-type]
        engine = ContinuousEngine(model, tokenizer, limit, settings)
        found = engine.complete(prompt, PROBE_TOKENS)
        if model.dtype != torch.float32 or found == list(expected.ids):
            return engine
        raise ValueError("it would answer otherwise than it was evaluated")
    except (ValueError, EngineError) as error:
        if engine:
            engine.stop()
        kind = type(model).__name__
        log.warning("%s answers in batches without continuous batching: %s.", kind, error)
        return BatchEngine(model, tokenizer, settings.max_running)


class GreedyRows(ContinuousBatchingTopKLogitsWarper):
    """Leave the rows whose top_k is 1 their first likeliest token, as argmax chooses it.

    The class of transformers sorts the vocabulary of all rows and leaves ties, of which it draws.
    """

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Return scores of the given shape (rows, vocabulary)."""
        greedy = (tensor_arg[: len(scores)] == 1).unsqueeze(-1)
        best = scores.argmax(-1, keepdim=True)
        alone = torch.full_like(scores, -torch.inf).scatter(-1, best, 0.0)
        return torch.where(greedy, alone, scores)


class NucleusRows(ContinuousBatchingTopPLogitsWarper):
    """Apply top_p to the rows that have one, so that the vocabulary is not sorted for the others."""

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Return scores of the given shape (rows, vocabulary)."""
        given = tensor_arg[: len(scores)]
        rows = given.view(dtype=torch.float32) < 1
        if not rows.any():
            return scores
        scores = scores.clone()
        scores[rows] = super().__call__(scores[rows], given[rows])
        return scores


class ContinuousEngine:
    """A model in this process, whose requests share batches."""

    draws = True
    seeds = False

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        limit: int,
        settings: ServeConfig,
    ) -> None:
        """Start the engine.

        Args:
            model: The model. Nothing else may run it before `stop`.
            tokenizer: The model's tokenizer.
            limit: The most tokens of a prompt with its answer.
            settings: The settings of the server.

        Raises:
            ValueError: Continuous batching cannot run the model.
        """
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)  # it logs prompts
        self._vocabulary = model.config.get_text_config().vocab_size
        self._numbers = itertools.count()
        # With these values transformers makes a processor for each, and each request has its own.
        drawn = GenerationConfig(
            do_sample=True,
            temperature=0.5,
            top_k=self._vocabulary,
            top_p=0.5,
            eos_token_id=sorted(end_tokens(model, tokenizer)),
            pad_token_id=tokenizer.pad_token_id,
        )
        self._manager = model.init_continuous_batching(
            generation_config=drawn,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE,
                num_blocks=-(-max(settings.cache_tokens, limit) // PAGE) + 1,
                max_batch_tokens=max(BATCH_TOKENS, settings.max_running),
                max_requests_per_batch=settings.max_running,
                per_request_processors=True,
                auto_switch_to_flash=False,
            ),
        )
        processors = self._manager.logit_processor.logits_processor
        ours: dict[type, Any] = {
            ContinuousBatchingTopKLogitsWarper: GreedyRows,
            ContinuousBatchingTopPLogitsWarper: NucleusRows,
        }
        processors[:] = [ours.get(type(each), type(each))(each) for each in processors]
        self._manager.start()

    async def generate(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[Step, None]:
        """Answer a prompt as `Engine.generate` describes."""
        name = str(next(self._numbers))
        results: asyncio.Queue[Any] = asyncio.Queue()
        self._manager.register_result_handler(name, results.put_nowait)
        finished = False
        try:
            self._add(name, prompt, sampling)
            while not finished:
                found = await results.get()
                finished = found.is_finished()
                if found.error is not None:
                    raise EngineError("the engine could not finish the answer")
                yield Step(found.generated_tokens, finished)
        finally:
            if not finished:
                self._manager.cancel_request(name)
                self._manager.output_router.result_handlers.pop(name, None)
            self._drop_unread()

    def complete(self, prompt: list[int], max_new_tokens: int) -> list[int]:
        """Answer a prompt greedily, and wait for it. This is for the time before requests come.

        Raises:
            EngineError: The engine has failed.
        """
        self._add("alone", prompt, Sampling(max_new_tokens))
        while self.is_alive():
            found = self._manager.get_result(timeout=1)
            if found is not None and found.error is None:
                return found.generated_tokens
        raise EngineError("continuous batching failed on the first prompt")

    def _drop_unread(self) -> None:
        """Drop what the engine wrote for clients that had left, which nobody reads."""
        with suppress(queue.Empty):
            while True:
                self._manager.output_router.output_queue.get_nowait()

    def is_alive(self) -> bool:
        """Return whether the thread of the engine runs and has not failed."""
        status = self._manager.background_thread_status
        return self._manager.is_running() and status.can_accept_new_requests() is None

    def stop(self) -> None:
        """Stop the engine as `Engine.stop` describes."""
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)
            self._manager.destroy()

    def _add(self, name: str, prompt: list[int], sampling: Sampling) -> None:
        greedy = sampling.temperature < MIN_TEMPERATURE
        added = self._manager.add_request(
            prompt,
            request_id=name,
            max_new_tokens=sampling.max_new_tokens,
            streaming=sampling.streaming,
            temperature=1.0 if greedy else float(sampling.temperature),
            top_k=1 if greedy else self._vocabulary,
            top_p=1.0 if greedy else float(sampling.top_p),
        )
        if added is None:
            raise EngineError("the engine has ended")
