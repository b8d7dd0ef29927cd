"""One arm's answers, as `predictions/<arm>.jsonl` has them, and what they took.

Seconds and electricity differ from run to run. They stand in files of their own, on which no stage depends, so that the
same answers have the same hash: after a harmless run of `baseline` DVC then does not run `evaluate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stages.core.config.arms import BASE_ARMS, MODEL_FREE_ARMS, REMOTE_ARM
from stages.core.config.schema import Config
from stages.core.storage.files import read_json, read_jsonl, write_json, write_jsonl

PREDICTIONS = Path("predictions")
GENERAL_BASE = PREDICTIONS / "general_base.json"
GENERAL_TUNED = PREDICTIONS / "general_tuned.json"
EXTRA = PREDICTIONS / "extra"  # arms that the verdict does not go by
CHOICES = PREDICTIONS / "choices.json"
MEASURED = (
    PREDICTIONS / "measured"
)  # a folder for each stage, because an output of DVC has one stage
TIMES = ("seconds", "energy_kwh")
UNWRITTEN = (*TIMES, "token_ids")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one arm answered to one record."""

    id: str
    arm: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float = 0.0
    """Wall time of the record's batch, shared equally among its rows; of the arm `remote` that of its own request.
    Read from the files, the mean of the arm."""
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
    token_ids: tuple[int, ...] = ()
    """Of the answer, the end token included, where this process generated it; they are not written."""


def prompted_arms(config: Config) -> tuple[str, ...]:
    """The alternatives to fine-tuning: those on the base model, and `remote` where an endpoint is configured."""
    return (*BASE_ARMS, REMOTE_ARM) if config.prompt.remote else BASE_ARMS


def write_predictions(arm: str, predictions: Sequence[Prediction]) -> None:
    """Write the arm's answers, and beside them what they took."""
    rows = [
        {key: value for key, value in asdict(row).items() if key not in UNWRITTEN}
        for row in predictions
    ]
    write_jsonl(PREDICTIONS / f"{arm}.jsonl", rows)
    energy = [row.energy_kwh for row in predictions if row.energy_kwh is not None]
    taken = {
        "seconds": sum(row.seconds for row in predictions),
        "energy_kwh": sum(energy) if energy else None,
    }
    write_json(_get_measured_file(arm), taken)


def read_predictions(arm: str) -> list[Prediction]:
    """The answers of an arm, in the order of the split that is judged.

    Raises:
        UserError: the stage that writes them has not run.
    """
    rows = [Prediction(**row) for row in read_jsonl(PREDICTIONS / f"{arm}.jsonl")]
    taken = read_json(_get_measured_file(arm))
    energy = taken["energy_kwh"]
    share = None if energy is None else energy / max(len(rows), 1)
    return [replace(row, seconds=taken["seconds"] / len(rows), energy_kwh=share) for row in rows]


def write_choices(choices: Mapping[str, Mapping[str, Any]]) -> None:
    """Write how each arm chose its prompt, and beside that the seconds of its search."""
    write_json(
        CHOICES,
        {
            arm: {k: v for k, v in choice.items() if k not in TIMES}
            for arm, choice in choices.items()
        },
    )
    seconds = {arm: choice["seconds"] for arm, choice in choices.items() if "seconds" in choice}
    write_json(_get_measured_file("choices"), seconds)


def read_choices() -> dict[str, dict[str, Any]]:
    """How each arm chose its prompt, with `seconds` where it searched.

    Raises:
        UserError: `baseline` has not run.
    """
    seconds = read_json(_get_measured_file("choices"))
    found = read_json(CHOICES).items()
    return {
        arm: {**choice, "seconds": seconds[arm]} if arm in seconds else choice
        for arm, choice in found
    }


def _get_measured_file(name: str) -> Path:
    of_baseline = name in (*MODEL_FREE_ARMS, *BASE_ARMS, REMOTE_ARM, "choices")
    return MEASURED / ("baseline" if of_baseline else "evaluate") / f"{name}.json"


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
