"""Asks the base model as a candidate says, and counts beforehand what that takes."""

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

SAMPLE = 8  # rows by which the tokens of a candidate are counted
ANSWERS = 64  # training targets by which the tokens of an answer are expected
SHOTS = 32  # training rows by which the tokens of an example are expected


class Asker(Protocol):
    """Asks a model."""

    def __call__(
        self, arm: str, candidate: Candidate, records: Sequence[Record]
    ) -> list[Prediction]:
        """The answers to the records."""

    def get_cost(self, candidate: Candidate, records: Sequence[Record]) -> Cost:
        """What asking such records takes, about."""


class BaseAsker:
    """Asks the base model, with shots from the training split.

    Where only some answers are allowed, a row is not asked again that was answered with one of them when every answer
    was allowed: each of its tokens was the likeliest of all, and so it is the likeliest of the allowed ones.
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
        """Ask nothing yet.

        Args:
            config: for the limits of the model and of the answers.
            engine: with the base model; without one it only counts.
            tokenizer: the model's.
            train: the training split.
            retriever: an index of it.
            allowed: token ids of the only possible answers; None allows every answer.
            free: what asked before without such a limit.
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
        """See `Asker`."""
        assert self._engine  # noqa: S101
        known = self._get_known(arm, candidate, records)
        new = [record for record in records if record.id not in known]
        if new:
            shots = get_shots(candidate, self._train, new, self._retriever)
            how = (self._config, new, candidate.instruction, shots, self._allowed)
            asked = ask(arm, self._engine, self._tokenizer, *how)
            shared = {
                answer.shared_prompt_tokens for answer in known.values()
            }  # one number for all rows of an arm
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
        """The answers that are known without asking, by the ids of the records."""
        found = {record.id: self._before.get((candidate, record.id)) for record in records}
        return {
            name: replace(answer, arm=arm)
            for name, answer in found.items()
            if answer and answer.token_ids in self._possible
        }

    def get_cost(self, candidate: Candidate, records: Sequence[Record]) -> Cost:
        """See `Asker`."""
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
    """The numbers of examples to try: those of `prompt.shots`, and with `fill_context` also twice, four times, …
    the largest of them, up to what fits into the context before every one of the rows."""
    counts = list(config.prompt.shots)
    if not (config.prompt.search.fill_context and rows):
        return counts
    longest = max(
        (config.prompt.instruction, *config.prompt.variants), key=lambda text: len(text or "")
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
    """Whether all examples of a draw fit before the longest question of the rows. Where they do not, prompts no longer
    begin alike and nothing is computed once for all of them. Similar rows differ from row to row anyway."""
    if candidate.examples != "drawn" or candidate.shots in config.prompt.shots or not rows:
        return True
    longest = max(rows, key=lambda record: len(record.question))
    shots = draw_shots(train, candidate)
    [(_, left_out)] = fit_prompts(tokenizer, config, [longest], candidate.instruction, [shots])
    return not left_out
