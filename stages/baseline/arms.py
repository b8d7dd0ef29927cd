"""How each prompted arm asks: tried on validation rows, so that the test split decides nothing but the verdict."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from stages.baseline.shots import get_shots
from stages.core.arms import REMOTE_ARM
from stages.core.config import Config
from stages.core.metrics import Metrics
from stages.core.predictions import Prediction, ask, headline, write_predictions
from stages.core.records import Record
from stages.core.retrieval import get_retriever

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from stages.core.engine import Engine

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


def get_asker(config: Config, engine: "Engine", tokenizer: "PreTrainedTokenizerBase", train: Sequence[Record]) -> Asker:
    """A function that asks the base model, with shots from the training split."""
    retriever = get_retriever(config.prompt, train)

    def asker(arm: str, records: Sequence[Record], instruction: str | None, k: int) -> list[Prediction]:
        shots = get_shots(arm, train, records, k, config.seed, retriever)
        return ask(arm, engine, tokenizer, config, records, instruction, shots)

    return asker


def answer(
    config: Config, asker: Asker, arm: str, validation: Sequence[Record], test: Sequence[Record]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Let an arm choose how it asks, and write its answers to the test rows; its choice and its headline numbers."""
    choice = choose(config, asker, arm, validation)
    predictions = asker(arm, test, choice.instruction, choice.shots)
    write_predictions(arm, predictions)
    return asdict(choice), {**headline(predictions), "shots": choice.shots}


def choose(config: Config, asker: Asker, arm: str, validation: Sequence[Record]) -> Choice:
    """Try every instruction with every number of shots; the highest score wins, of equals the shortest prompt."""
    instructions = [config.prompt.instruction, *config.prompt.variants]
    shots = {"zero_shot": [0], REMOTE_ARM: [0, *config.prompt.shots]}.get(arm, config.prompt.shots)
    ways = list(product(instructions, shots))
    if len(ways) == 1:
        return Choice(*ways[0], rows=0, trials=[])
    primary = config.evaluate.primary_metric
    metrics = Metrics([primary], config.evaluate.options, primary)
    drawn = min(config.prompt.trial_rows, len(validation))  # at random: the first rows are those of the first source
    rows, trials = random.Random(config.seed).sample(list(validation), drawn), []
    for instruction, k in ways:
        answers = asker(arm, rows, instruction, k)
        score = metrics.score_records(answers, rows)[primary].value
        trials.append(Trial(instruction, k, score, headline(answers)["prompt_tokens"]))
    best = max(trials, key=lambda trial: (trial.score, -trial.prompt_tokens))
    return Choice(best.instruction, best.shots, len(rows), trials)
