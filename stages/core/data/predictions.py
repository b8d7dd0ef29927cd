"""One arm's answers, as `predictions/<arm>.jsonl` has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.core.config.arms import BASE_ARMS, MODEL_FREE_ARMS, REMOTE_ARM
from stages.core.config.schema import Config
from stages.core.storage.files import read_jsonl, write_jsonl

PREDICTIONS = Path("predictions")
GENERAL_BASE, GENERAL_TUNED = PREDICTIONS / "general_base.json", PREDICTIONS / "general_tuned.json"
EXTRA = PREDICTIONS / "extra"  # arms that the verdict does not go by


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one arm answered to one record."""

    id: str
    arm: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Wall time of the record's batch, shared equally among its rows; of the arm `remote` that of its own request."""
    energy_kwh: float | None = None
    """The arm's electricity, shared equally among its rows; null where it was not measured."""
    target_nats: float | None = None
    """Negative log-likelihood of the target after the arm's prompt; null without `evaluate.likelihood`."""
    target_tokens: int | None = None
    """Of the target, its end token included."""
    cut: bool | None = None
    """Whether the answer was ended by `prompt.max_new_tokens`; null where that is not known."""
    shared_prompt_tokens: int = 0
    """How many tokens all prompts of the arm begin with, which need to be computed once; 0 where nobody knows."""
    shots_left_out: int = 0
    """Examples for which the context had no room."""


def prompted_arms(config: Config) -> tuple[str, ...]:
    """The alternatives to fine-tuning: those on the base model, and `remote` where an endpoint is configured."""
    return (*BASE_ARMS, REMOTE_ARM) if config.prompt.remote else BASE_ARMS


def write_predictions(arm: str, predictions: Sequence[Prediction]) -> None:
    """Write the arm's file."""
    write_jsonl(PREDICTIONS / f"{arm}.jsonl", predictions)


def read_predictions(arm: str) -> list[Prediction]:
    """The answers of an arm, in the order of the split that is judged.

    Raises:
        UserError: the stage that writes them has not run.
    """
    return [Prediction(**row) for row in read_jsonl(PREDICTIONS / f"{arm}.jsonl")]


def read_arms(config: Config) -> dict[str, list[Prediction]]:
    """The answers of every arm that `baseline` left: those without a model first, none where an arm does not apply."""
    found = {arm: read_predictions(arm) for arm in (*MODEL_FREE_ARMS, *prompted_arms(config))}
    return {arm: answers for arm, answers in found.items() if answers}


def headline(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Means over the rows: tokens of the prompt and of the answer, seconds a request."""
    n = len(predictions)
    return {
        "prompt_tokens": sum(p.prompt_tokens for p in predictions) / n,
        "completion_tokens": sum(p.completion_tokens for p in predictions) / n,
        "seconds_per_request": sum(p.seconds for p in predictions) / n,
    }
