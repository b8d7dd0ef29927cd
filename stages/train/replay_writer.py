"""Replay rows that the base model writes itself: no data is needed, and no licence.

It continues its bare chat template where a user's turn begins, sampled, and so writes what users ask (Xu et al.,
"Magpie", 2024); then it answers these questions itself, greedily. Trained on its own answers among the task's rows, a
model keeps more of what it was (Huang et al., "Self-Synthesized Rehearsal", 2024; Yang et al., "Self-Distillation
Bridges Distribution Gap in Language Model Fine-Tuning", 2024).

Rows are written in parts, each with a seed of its own and kept under `TUNEPROOF_CACHE`: a killed run writes at most one
part again, and a larger `train.replay.rows` begins with the rows of a smaller one.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.prompts import split_user_turn
from stages.core.errors import UserError
from stages.core.models.loading import get_dtype, get_model
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import read_json, read_jsonl, sha256_json, write_json, write_jsonl
from stages.train.replay_rows import ReplayRow

if TYPE_CHECKING:
    from stages.core.models.generation import Choosing
    from stages.train.methods.base import Method

log = logging.getLogger(__name__)

RECIPE = 1  # part of the cache's key: raise it when the code below writes other rows
PART = 32  # questions that are sampled together
TEMPERATURE = 1.0  # of the questions: the model's own distribution, ...
TOP_P = 0.95  # ... without the tail in which a small model loses its thread
QUESTION_TOKENS = 96  # a question that has not ended by then is left out
# An answer is learned up to here. SmolLM2-135M ended 7 of 27 answers within 192 tokens, and most of these 7 refused: to
# keep only whole answers would teach the model to refuse, and would take ten times as long.
ANSWER_TOKENS = 64
SHORTEST = 8  # characters of a question
PATIENCE = 4  # times as many questions are sampled as rows are wanted before the writer gives up


def write_rows(method: "Method", count: int) -> tuple[list[ReplayRow], float]:
    """Different rows that the base model wrote, and the seconds that it took when they were written.

    Raises:
        UserError: the chat template does not end a user's turn by an end token, or too few questions are of use.
    """
    writer = _Writer(method)
    rows: dict[str, ReplayRow] = {}
    seconds = 0.0
    most = -(-PATIENCE * count // PART)
    for number in range(most):
        folder = writer.get_part(number)
        seconds += read_json(folder / "facts.json")["seconds"]
        for row in read_jsonl(folder / "rows.jsonl"):
            question = " ".join(row["messages"][0]["content"].casefold().split())
            rows.setdefault(question, ReplayRow(f"replay-{len(rows) + 1}", **row))
        if len(rows) >= count:
            return list(rows.values())[:count], seconds
    raise UserError(
        f"train.replay.source=self: {method.name} wrote {len(rows)} useful rows in {most * PART} attempts, {count} are "
        "wanted. Lower train.replay.rows, or give a JSONL file of chats as train.replay.source."
    )


def sample(seed: int) -> "Choosing":
    """Draws from the likeliest tokens that together have the probability `TOP_P` (Holtzman et al., 2020)."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def choose(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        probabilities = torch.softmax(logits.float().cpu() / TEMPERATURE, -1)
        ordered, tokens = probabilities.sort(stable=True, dim=-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered > TOP_P] = 0
        drawn = torch.multinomial(ordered, 1, generator=generator)
        return tokens.gather(-1, drawn).squeeze(-1).to(logits.device)

    return choose


class _Writer:
    """Writes parts; the model is loaded for the first one that is not in the cache."""

    def __init__(self, method: "Method") -> None:
        self._method = method
        self._config = method.config
        self._tokenizer = method.tokenizer
        self._opening, self._closing = split_user_turn(self._tokenizer)
        self._model: Any = None
        base = method.base
        dtype = str(get_dtype(self._config.model.dtype))
        weights = base.sha256 or base.revision or base.path
        recipe = [RECIPE, PART, TEMPERATURE, TOP_P, QUESTION_TOKENS, ANSWER_TOKENS, SHORTEST]
        made_of = [
            weights,
            dtype,
            self._config.train.quantization,
            self._tokenizer.chat_template,
            recipe,
        ]
        self._key = sha256_json([*made_of, self._config.model.max_length, self._config.seed])[:24]

    def get_part(self, number: int) -> Path:
        """The folder with `rows.jsonl` and `facts.json` of a part."""
        return cached_folder(
            f"replay/{self._key}-{number}", lambda folder: self._write(number, folder)
        )

    def _write(self, number: int, folder: Path) -> None:
        started = time.perf_counter()
        questions = self._ask(number)
        prompts = [self._encode(self._opening + text + self._closing) for text in questions]
        answers = (
            self._generate(prompts, ANSWER_TOKENS, f"replay answers, part {number + 1}")
            if prompts
            else []
        )
        rows = [
            {
                "messages": [
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": answer.text},
                ],
                "unfinished": answer.completion_tokens == ANSWER_TOKENS,
            }
            for text, answer in zip(questions, answers, strict=True)
            if answer.text.strip()
        ]
        write_jsonl(folder / "rows.jsonl", rows)
        write_json(
            folder / "facts.json",
            {"asked": PART, "kept": len(rows), "seconds": time.perf_counter() - started},
        )

    def _ask(self, number: int) -> list[str]:
        """Questions that ended by themselves and are neither empty nor a repetition."""
        seed = (self._config.seed << 20) + number
        title = f"replay questions, part {number + 1}"
        drawn = self._generate(
            [self._encode(self._opening)] * PART, QUESTION_TOKENS, title, choose=sample(seed)
        )
        texts = [
            answer.text.strip() for answer in drawn if answer.completion_tokens < QUESTION_TOKENS
        ]
        return list(dict.fromkeys(text for text in texts if len(text) >= SHORTEST))

    def _generate(
        self, prompts: list[list[int]], tokens: int, title: str, **others: Any
    ) -> list[Any]:
        from stages.core.models.generation import end_tokens, generate

        model = self._get_model()
        first = self._encode(self._closing)[:1]
        if not set(first) & end_tokens(model, self._tokenizer):
            raise UserError(
                "train.replay.source=self: the chat template does not end a user's turn by an end token of the model, "
                "so that nobody knows where a question ends. Give a JSONL file of chats as train.replay.source."
            )
        limit = self._config.model.batch_tokens
        return generate(
            model,
            self._tokenizer,
            prompts,
            max_new_tokens=tokens,
            batch_tokens=limit,
            title=title,
            **others,
        )

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _get_model(self) -> Any:
        if self._model is None:
            log.info("%s writes replay rows, once; they stay in the cache.", self._method.name)
            config = self._config
            self._model = get_model(
                self._method.base, config.model.dtype, config.train.quantization
            )
        return self._model
