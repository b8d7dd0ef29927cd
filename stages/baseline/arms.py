"""How each prompted arm asks: tried on validation rows, so that the test split decides nothing but the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from stages.baseline.shots import get_shots
from stages.core.config import Config
from stages.core.metrics import Metrics
from stages.core.predictions import Prediction, ask, headline
from stages.core.records import Record
from stages.core.retrieval import get_retriever

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Asker = Callable[[str, Sequence[Record], str | None, int], list[Prediction]]
"""Takes arm, rows, instruction and number of shots."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to ask, on validation rows."""

    instruction: str | None
    shots: int
    score: float
    """The primary metric."""
    prompt_tokens: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The best of the trials."""

    instruction: str | None
    shots: int
    rows: int
    """Validation rows; 0 where there was nothing to choose."""
    trials: list[Trial]


def get_asker(
    config: Config, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", train: Sequence[Record]
) -> Asker:
    """A function that asks the base model, with shots from the training split."""
    retriever = get_retriever(config.prompt, train)

    def asker(arm: str, records: Sequence[Record], instruction: str | None, k: int) -> list[Prediction]:
        shots = get_shots(arm, train, records, k, config.seed, retriever)
        return ask(arm, model, tokenizer, config, records, instruction, shots)

    return asker


def choose(config: Config, asker: Asker, arm: str, validation: Sequence[Record]) -> Choice:
    """Try every instruction with every number of shots; the highest score wins, of equals the shortest prompt."""
    instructions = [config.prompt.instruction, *config.prompt.variants]
    ways = list(product(instructions, config.prompt.shots if arm != "zero_shot" else [0]))
    if len(ways) == 1:
        return Choice(*ways[0], rows=0, trials=[])
    primary = config.evaluate.primary_metric
    metrics = Metrics([primary], config.evaluate.options)
    rows, trials = validation[: config.prompt.trial_rows], []
    for instruction, k in ways:
        answers = asker(arm, rows, instruction, k)
        score = metrics.score_records([answer.text for answer in answers], rows)[primary].value
        trials.append(Trial(instruction, k, score, headline(answers)["prompt_tokens"]))
    best = max(trials, key=lambda trial: (trial.score, -trial.prompt_tokens))
    return Choice(best.instruction, best.shots, len(rows), trials)
