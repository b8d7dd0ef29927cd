"""The answers of one arm in `predictions/<arm>.jsonl`, and the seconds and electricity they took.

Seconds and electricity differ from run to run. They are in separate files, on which no stage
depends, so that equal answers have equal hashes. DVC then does not rerun `evaluate` after a run of
`baseline` that changed no answer.
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
EXTRA = PREDICTIONS / "extra"  # arms that the verdict ignores
CHOICES = PREDICTIONS / "choices.json"
# It has a folder for each stage, because an output of DVC belongs to one stage.
MEASURED = PREDICTIONS / "measured"
TIMES = ("seconds", "energy_kwh")
UNWRITTEN = (*TIMES, "token_ids")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer of one arm to one record."""

    id: str
    arm: str
    text: str
    """The answer without the thought before it, if the model thinks and the target does not."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float = 0.0
    """Wall time of the record's batch, divided equally among its rows. For the arm `remote` it is
    the time of the record's own request. After reading from the files it is the mean of the arm."""
    energy_kwh: float | None = None
    """Electricity of the arm, divided equally among its rows; null if it was not measured."""
    target_nats: float | None = None
    """Negative log-likelihood of the target after the arm's prompt; null unless
    `evaluate.target_loglikelihood` is set."""
    target_tokens: int | None = None
    """Tokens of the target, including its end token."""
    cut: bool | None = None
    """Whether `prompt.max_new_tokens` ended the answer; null if that is unknown."""
    shared_prompt_tokens: int = 0
    """Length of the prefix that all prompts of the arm share and that needs to be computed only
    once, in tokens; 0 if it is unknown."""
    shots_left_out: int = 0
    """Number of examples that did not fit into the context."""
    token_ids: tuple[int, ...] = ()
    """Token ids of the answer, including the end token, if this process generated it. They are not
    written to the files."""


def prompted_arms(config: Config) -> tuple[str, ...]:
    """List the arms that prompt a model: those on the base model, and `remote` if configured."""
    return (*BASE_ARMS, REMOTE_ARM) if config.prompt.remote else BASE_ARMS


def write_predictions(arm: str, predictions: Sequence[Prediction]) -> None:
    """Write the answers of an arm, and in a separate file the seconds and electricity they took."""
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
    """Read the answers of an arm, in the order of the rows of the judged split.

    Raises:
        UserError: The stage that writes them has not run.
    """
    rows = [Prediction(**row) for row in read_jsonl(PREDICTIONS / f"{arm}.jsonl")]
    taken = read_json(_get_measured_file(arm))
    energy = taken["energy_kwh"]
    share = None if energy is None else energy / max(len(rows), 1)
    return [replace(row, seconds=taken["seconds"] / len(rows), energy_kwh=share) for row in rows]


def write_choices(choices: Mapping[str, Mapping[str, Any]]) -> None:
    """Write how each arm chose its prompt, and in a separate file the seconds of its search."""
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
    """Read how each arm chose its prompt, with `seconds` if it searched.

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
    """Read the answers of every arm that `baseline` wrote, the arms without a model first.

    Arms that do not apply have no answers and are left out.
    """
    found = {arm: read_predictions(arm) for arm in (*MODEL_FREE_ARMS, *prompted_arms(config))}
    return {arm: answers for arm, answers in found.items() if answers}


def summarize_predictions(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Compute the mean tokens of prompt and answer and the mean seconds per request."""
    n = len(predictions)
    return {
        "prompt_tokens": sum(p.prompt_tokens for p in predictions) / n,
        "completion_tokens": sum(p.completion_tokens for p in predictions) / n,
        "seconds_per_request": sum(p.seconds for p in predictions) / n,
    }
