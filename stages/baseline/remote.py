"""Ask a model that is hosted elsewhere, for the arm `remote`.

Its candidates are those of `zero_shot` and `few_shot` together.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.baseline.asking import BaseAsker
from stages.baseline.candidates import Candidate
from stages.baseline.halving import Cost
from stages.baseline.retrieval import Retriever
from stages.baseline.shots import draw_shots
from stages.core.config.prompt import Endpoint
from stages.core.config.schema import Config
from stages.core.data.predictions import Prediction
from stages.core.data.prompts import build_prompt
from stages.core.data.records import Record
from stages.core.data.thoughts import drop_thought
from stages.core.endpoint.requests import Reply, Request, chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class Remote:
    """Asks the model behind an endpoint. Implements `Asker`."""

    def __init__(
        self,
        config: Config,
        endpoint: Endpoint,
        tokenizer: "PreTrainedTokenizerBase",
        train: Sequence[Record],
        retriever: Retriever,
    ) -> None:
        """Prepare to ask.

        Args:
            config: The configuration, for the length limit of the answers.
            endpoint: The endpoint to ask.
            tokenizer: The base model's tokenizer, which estimates tokens beforehand because the
                remote model's own is not available.
            train: The training split.
            retriever: An index of the training split.
        """
        self._config = config
        self._endpoint = endpoint
        self._train = train
        self._replies: list[Reply] = []
        self._counter = BaseAsker(config, None, tokenizer, train, retriever)

    def __call__(
        self, arm: str, candidate: Candidate, records: Sequence[Record]
    ) -> list[Prediction]:
        """Answer the rows with the same examples for each of them.

        Raises:
            UserError: The endpoint cannot answer.
        """
        limit = self._config.prompt.max_new_tokens
        shots = draw_shots(self._train, candidate)
        prompts = [build_prompt(record, candidate.instruction, shots) for record in records]
        requests = [
            Request(prompt, limit, self._config.seed, record.tools)
            for prompt, record in zip(prompts, records, strict=True)
        ]
        self._replies = chat(self._endpoint, requests, "prompt.remote")
        self._warn(limit)
        return [
            Prediction(
                record.id,
                arm,
                drop_thought("", reply.text, record.target),
                reply.prompt_tokens,
                reply.completion_tokens,
                reply.seconds,
                cut=reply.cut,
            )
            for record, reply in zip(records, self._replies, strict=True)
        ]

    def get_cost(self, candidate: Candidate, records: Sequence[Record]) -> Cost:
        """Estimate the tokens for records like these. Every token of every prompt counts."""
        cost = self._counter.get_cost(candidate, records)
        return Cost(0, cost.prefix + cost.row)

    def metadata(self) -> dict[str, Any]:
        """Return who answered the last rows, for the report. It contains no secrets."""
        return {
            "base_url": self._endpoint.base_url,
            "model": self._endpoint.model,
            "answered_by": sorted({reply.model for reply in self._replies}),
            "fingerprints": sorted(
                {reply.fingerprint for reply in self._replies if reply.fingerprint}
            ),
            "cut": sum(reply.cut for reply in self._replies),
            "without_usage": sum(not reply.prompt_tokens for reply in self._replies),
        }

    def _warn(self, limit: int) -> None:
        """Warn of what would make the comparison unfair."""
        n = len(self._replies)
        facts = self.metadata()
        empty = sum(reply.cut and not reply.text.strip() for reply in self._replies)
        if empty:
            log.warning(
                "remote: %d of %d answers are empty because the model used up its %d tokens first. "
                "It may be a reasoning model. Raise prompt.max_new_tokens for a fair comparison.",
                *(empty, n, limit),
            )
        if facts["without_usage"]:
            log.warning(
                "remote: the server did not report the token usage of %d of %d answers. "
                "They count as 0 tokens, so ignore the costs of this arm.",
                *(facts["without_usage"], n),
            )
