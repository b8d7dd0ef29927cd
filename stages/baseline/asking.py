"""Ask the base model with a candidate's prompt, and estimate the tokens of that beforehand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from stages.baseline.candidates import Candidate
from stages.baseline.halving import Cost
from stages.baseline.retrieval import Retriever
from stages.baseline.shots import draw_shots, get_shots
from stages.core.config.schema import Config
from stages.core.data.predictions import Prediction
from stages.core.data.prompts import build_prompt, encode_prompt, encode_target
from stages.core.data.records import Record
from stages.core.inference.asking import ask, fit_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from stages.core.inference.engine import Engine

SAMPLE = 8  # rows whose prompts give the estimate of a candidate's tokens
ANSWERS = 64  # training targets that give the estimate of an answer's tokens
SHOTS = 32  # training rows that give the estimate of an example's tokens


class Asker(Protocol):
    """Answers records with the prompt of a candidate."""

    def __call__(
        self, arm: str, candidate: Candidate, records: Sequence[Record]
    ) -> list[Prediction]:
        """Answer the records."""

    def get_cost(self, candidate: Candidate, records: Sequence[Record]) -> Cost:
        """Estimate the tokens that a candidate takes for records like these."""


class BaseAsker:
    """Asks the base model, with examples from the training split.

    If only some answers are allowed, the asker reuses each unconstrained answer that is one of
    them. Each token of such an answer was the most likely of all tokens, and so of the allowed ones
    too.
    """

    def __init__(
        self,
        config: Config,
        engine: "Engine | None",
        tokenizer: "PreTrainedTokenizerBase",
        train: Sequence[Record],
        retriever: Retriever,
        allowed: Sequence[list[int]] | None = None,
        free: "BaseAsker | None" = None,
    ) -> None:
        """Prepare to ask, and estimate the length of an answer from the training targets.

        Args:
            config: The configuration, for the length limits of prompts and answers.
            engine: The engine that runs the base model. None only estimates tokens.
            tokenizer: The tokenizer of the base model.
            train: The training split.
            retriever: An index of the training split.
            allowed: Token ids of the only possible answers. None allows every answer.
            free: The asker that has asked the same candidates without this constraint.
        """
        self._config = config
        self._engine = engine
        self._tokenizer = tokenizer
        self._train = train
        self._allowed = allowed
        self._possible = {tuple(ids) for ids in allowed or ()}
        self._before = free._answers if free else {}
        self._answers: dict[tuple[Candidate, str], Prediction] = {}
        self._retriever = retriever
        lengths = [len(encode_target(tokenizer, record)) for record in train[:ANSWERS]]
        self._answer = min(sum(lengths) / len(lengths), config.prompt.max_new_tokens)

    def __call__(
        self, arm: str, candidate: Candidate, records: Sequence[Record]
    ) -> list[Prediction]:
        """Answer the records, reusing answers that are already known."""
        assert self._engine  # noqa: S101
        known = self._get_known(arm, candidate, records)
        new = [record for record in records if record.id not in known]
        if new:
            shots = get_shots(candidate, self._train, new, self._retriever)
            how = (self._config, new, candidate.instruction, shots, self._allowed)
            asked = ask(arm, self._engine, self._tokenizer, *how)
            # All rows of an arm report the same number of shared prompt tokens.
            shared = {answer.shared_prompt_tokens for answer in known.values()}
            known |= {
                answer.id: replace(answer, shared_prompt_tokens=min(shared)) if shared else answer
                for answer in asked
            }
        answers = [known[record.id] for record in records]
        self._answers |= {(candidate, answer.id): answer for answer in answers}
        return answers

    def _get_known(
        self, arm: str, candidate: Candidate, records: Sequence[Record]
    ) -> dict[str, Prediction]:
        """Return the answers that are known without asking, by record id."""
        found = {record.id: self._before.get((candidate, record.id)) for record in records}
        return {
            name: replace(answer, arm=arm)
            for name, answer in found.items()
            if answer and answer.token_ids in self._possible
        }

    def get_cost(self, candidate: Candidate, records: Sequence[Record]) -> Cost:
        """Estimate the tokens from the prompts of the first few records."""
        from stages.core.models.generation import common_prefix

        rows = records[:SAMPLE]
        shots = get_shots(candidate, self._train, rows, self._retriever)
        fitted = fit_prompts(self._tokenizer, self._config, rows, candidate.instruction, shots)
        prompts = [prompt for prompt, _ in fitted]
        prefix = common_prefix(prompts)
        return Cost(prefix, sum(map(len, prompts)) / len(prompts) - prefix + self._answer)


def get_shot_counts(
    config: Config,
    tokenizer: "PreTrainedTokenizerBase",
    train: Sequence[Record],
    rows: Sequence[Record],
) -> list[int]:
    """Return the numbers of examples to try.

    These are the numbers in `prompt.shots`. With `prompt.search.fill_context` the largest of them
    is doubled as long as the examples should fit into the context of every row, and the last number
    is the most that should fit. The room comes from the longest row and from the average length of
    an example.
    """
    counts = list(config.prompt.shots)
    if not (config.prompt.search.fill_context and rows):
        return counts
    longest = max(
        (config.prompt.system_prompt, *config.prompt.system_prompt_variants),
        key=lambda text: len(text or ""),
    )

    def count(record: Record, shots: Sequence[Record] = ()) -> int:
        return len(encode_prompt(tokenizer, build_prompt(record, longest, shots), record.tools))

    bare = max(count(record) for record in rows)
    shown = train[:SHOTS]
    shot = (sum(count(rows[0], [record]) - count(rows[0]) for record in shown)) / len(shown)
    room = config.model.max_length - config.prompt.max_new_tokens - bare
    most = min(int(room / max(shot, 1)), len(train))
    while 2 * max(counts) <= most:
        counts.append(2 * max(counts))
    return counts if max(counts) >= most else [*counts, most]


def has_room(
    config: Config,
    tokenizer: "PreTrainedTokenizerBase",
    train: Sequence[Record],
    candidate: Candidate,
    rows: Sequence[Record],
) -> bool:
    """Return whether all drawn examples fit into the context before the longest question.

    If they do not, the prompts no longer share a prefix that is computed once for all of them. The
    check applies only to drawn examples beyond the configured numbers, because similar examples
    differ from row to row anyway.
    """
    if candidate.examples != "drawn" or candidate.shots in config.prompt.shots or not rows:
        return True
    longest = max(rows, key=lambda record: len(record.question))
    shots = draw_shots(train, candidate)
    [(_, left_out)] = fit_prompts(tokenizer, config, [longest], candidate.instruction, [shots])
    return not left_out
