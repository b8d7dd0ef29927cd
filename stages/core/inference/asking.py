"""Get the answers of one arm to records from an engine."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stages.core.config.schema import Config
from stages.core.data.predictions import Prediction
from stages.core.data.prompts import build_prompt, encode_prompt, encode_target
from stages.core.data.records import Record
from stages.core.data.thoughts import read_answer
from stages.core.environment.energy import measure
from stages.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from stages.core.inference.engine import Engine


def ask(
    arm: str,
    engine: "Engine",
    tokenizer: "PreTrainedTokenizerBase",
    config: Config,
    records: Sequence[Record],
    instruction: str | None,
    shots: Sequence[Sequence[Record]] | None = None,
    allowed: Sequence[list[int]] | None = None,
) -> list[Prediction]:
    """Let an engine answer every record.

    Args:
        arm: The name of the arm.
        engine: The engine with the arm's model.
        tokenizer: The model's tokenizer.
        config: The configuration, which limits the prompts and the answers.
        records: The rows to answer.
        instruction: The system message; None keeps the rows' own.
        shots: For each record, the solved rows that precede it in the prompt.
        allowed: Token ids of the only allowed answers, as in `Engine.generate`.

    Raises:
        UserError: A record does not fit into the model's limit even without shots.
    """
    from stages.core.models.generation import common_prefix

    fitted = fit_prompts(tokenizer, config, records, instruction, shots)
    prompts = [prompt for prompt, _ in fitted]
    with measure(config.energy) as used:
        limit = config.prompt.max_new_tokens
        answers = engine.generate(prompts, max_new_tokens=limit, title=arm, allowed=allowed)
    energy = None if used.kwh is None else used.kwh / len(records)
    shared = common_prefix(prompts)
    found = [
        Prediction(
            r.id,
            arm,
            read_answer(tokenizer, prompt, a.text, r.target),
            a.prompt_tokens,
            a.completion_tokens,
            a.seconds,
            energy,
            cut=a.cut,
            shared_prompt_tokens=shared,
            shots_left_out=left_out,
            token_ids=a.ids,
        )
        for r, a, (prompt, left_out) in zip(records, answers, fitted, strict=True)
    ]
    return (
        _read_targets(engine, tokenizer, found, prompts, records)
        if config.evaluate.target_loglikelihood
        else found
    )


def fit_prompts(
    tokenizer: "PreTrainedTokenizerBase",
    config: Config,
    records: Sequence[Record],
    instruction: str | None,
    shots: Sequence[Sequence[Record]] | None = None,
) -> list[tuple[list[int], int]]:
    """Build the prompt of each record, leaving out the first shots if they do not fit.

    Returns:
        For each record, the token ids of its prompt and the number of shots that were left out.

    Raises:
        UserError: A record does not fit into the model's limit even without shots.
    """

    limit = config.model.max_length - config.prompt.max_new_tokens
    shots = shots or [()] * len(records)
    return [_fit(tokenizer, r, instruction, s, limit) for r, s in zip(records, shots, strict=True)]


def _read_targets(
    engine: "Engine",
    tokenizer: "PreTrainedTokenizerBase",
    predictions: Sequence[Prediction],
    prompts: Sequence[list[int]],
    records: Sequence[Record],
) -> list[Prediction]:
    """Add to each prediction the likelihood of the target after its prompt."""
    from stages.core.models.likelihood import get_nats

    targets = [encode_target(tokenizer, record) for record in records]
    title = f"{predictions[0].arm}, targets"
    nats = get_nats(engine.get_model(), list(zip(prompts, targets, strict=True)), title)
    return [
        replace(found, target_nats=value, target_tokens=len(target))
        for found, value, target in zip(predictions, nats, targets, strict=True)
    ]


def _fit(
    tokenizer: "PreTrainedTokenizerBase",
    record: Record,
    instruction: str | None,
    shots: Sequence[Record],
    limit: int,
) -> tuple[list[int], int]:
    """Build a prompt with as many of the last shots as fit into `limit` tokens.

    Returns:
        The token ids, and how many of the first shots were left out.
    """
    for first in range(len(shots) + 1):
        ids = encode_prompt(
            tokenizer, build_prompt(record, instruction, shots[first:]), record.tools
        )
        if len(ids) <= limit:
            return ids, first
    raise UserError(
        f"the prompt of record {record.id} takes {len(ids)} tokens, but model.max_length minus "
        f"prompt.max_new_tokens leaves {limit}. Raise model.max_length, or shorten the row."
    )
