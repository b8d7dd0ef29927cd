"""The arm `remote`: another model, hosted elsewhere, asked with instructions and fixed examples as the others are."""

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
from stages.core.endpoint.requests import Reply, Request, chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class Remote:
    """Asks the model behind an endpoint; called as any `Asker`."""

    def __init__(
        self,
        config: Config,
        endpoint: Endpoint,
        tokenizer: "PreTrainedTokenizerBase",
        train: Sequence[Record],
        retriever: Retriever,
    ) -> None:
        """Ask nothing yet.

        Args:
            config: for the limit of the answers.
            endpoint: where to ask.
            tokenizer: the base model's, to count beforehand; the other model's own is not at hand.
            train: the training split.
            retriever: an index of it.
        """
        self._config = config
        self._endpoint = endpoint
        self._train = train
        self._replies: list[Reply] = []
        self._counter = BaseAsker(config, None, tokenizer, train, retriever)

    def __call__(
        self, arm: str, candidate: Candidate, records: Sequence[Record]
    ) -> list[Prediction]:
        """Answer the rows, with the same shots for each.

        Raises:
            UserError: the endpoint cannot answer.
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
                reply.text,
                reply.prompt_tokens,
                reply.completion_tokens,
                reply.seconds,
                cut=reply.cut,
            )
            for record, reply in zip(records, self._replies, strict=True)
        ]

    def get_cost(self, candidate: Candidate, records: Sequence[Record]) -> Cost:
        """See `Asker`. Every token of a prompt is paid."""
        cost = self._counter.get_cost(candidate, records)
        return Cost(0, cost.prefix + cost.row)

    def facts(self) -> dict[str, Any]:
        """Who answered the last rows, for the report: nothing in it is secret."""
        return {
            "url": self._endpoint.url,
            "model": self._endpoint.model,
            "answered_by": sorted({reply.model for reply in self._replies}),
            "fingerprints": sorted(
                {reply.fingerprint for reply in self._replies if reply.fingerprint}
            ),
            "cut": sum(reply.cut for reply in self._replies),
            "without_usage": sum(not reply.prompt_tokens for reply in self._replies),
        }

    def _warn(self, limit: int) -> None:
        """Of what would make the comparison unfair."""
        n = len(self._replies)
        facts = self.facts()
        empty = sum(reply.cut and not reply.text.strip() for reply in self._replies)
        if empty:
            log.warning(
                "remote: %d of %d answers are empty, for the model used up its %d tokens before (it may think first). "
                "Raise prompt.max_new_tokens, or the comparison is unfair to it.",
                *(empty, n, limit),
            )
        if facts["without_usage"]:
            log.warning(
                "remote: the server does not tell how many tokens %d of %d answers took; they count as 0, so leave "
                "the costs of this arm out of account.",
                *(facts["without_usage"], n),
            )
