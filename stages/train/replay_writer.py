"""Replay rows that the base model writes itself, which needs no data and no licence.

The model samples a continuation of its bare chat template where a user's turn begins, and so writes
what users ask (Xu et al., "Magpie", 2024). It then answers these questions itself with greedy
decoding. A model that is trained on its own answers among the rows of the task keeps more of its
abilities (Huang et al., "Self-Synthesized Rehearsal", 2024; Yang et al., "Self-Distillation Bridges
Distribution Gap in Language Model Fine-Tuning", 2024).

Rows are written in parts, each with its own seed, and are kept under `TUNEPROOF_CACHE`. A run that
was killed therefore repeats at most one part, and a larger `train.replay.rows` begins with the rows
of a smaller one.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.encoding import encode_texts
from stages.core.data.prompts import encode_prompt, split_user_turn
from stages.core.data.records import Message
from stages.core.errors import UserError
from stages.core.models.loading import get_dtype, get_model
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import read_json, read_jsonl, sha256_json, write_json, write_jsonl
from stages.train.replay_chats import add_orders, alternate_system
from stages.train.replay_rows import ReplayRow

if TYPE_CHECKING:
    from stages.core.models.generation import Choosing
    from stages.train.methods.base import Method

log = logging.getLogger(__name__)

# Questions are sampled from the model's own distribution, without the tail in which a small model
# becomes incoherent.
TEMPERATURE = 1.0
TOP_P = 0.95
# Of these many tokens. To sort a vocabulary of 49,152 took two thirds of the time of a question.
TOP_K = 2048
QUESTION_TOKENS = 96  # a question that has not ended by then is left out
# Longer answers are cut here. The first tokens decide whether a model answers or does the task, and
# short rows are written and learned faster. SmolLM2-135M ended 7 of 27 answers within 192 tokens, and
# most of these 7 were refusals. Keeping only whole answers would teach the model to refuse.
ANSWER_TOKENS = 24
# Words with which every second question begins, because a model seldom writes short orders by
# itself. Without them a tuned model of the default answered 76 of the 192 orders and sums of the
# general suite with a label of the task, and none of the 64 questions about facts.
OPENINGS = (
    *("Write", "Give", "Explain", "List", "Describe", "Name", "Answer", "Tell"),
    *("Create", "Find", "Make", "Count", "Translate", "Say", "Identify", "How many"),
)
PART = 2 * len(OPENINGS)  # questions that are sampled together
SHORTEST = 8  # characters; shorter questions are left out
# What is part of the cache's key. Increase the number if the code would write other rows.
RECIPE = (3, PART, TEMPERATURE, TOP_P, TOP_K, QUESTION_TOKENS, ANSWER_TOKENS, SHORTEST, OPENINGS)
PATIENCE = 4  # the writer gives up after sampling this many questions per wanted row


def write_rows(
    method: "Method", chats: Sequence[list[Message]], count: int
) -> tuple[list[ReplayRow], float]:
    """Let the base model write rows, or take them from the cache.

    Args:
        method: The training method, whose base model writes the rows.
        chats: Chats to answer, some of which get an order of the model before their question. The
            model writes the questions of the other rows itself.
        count: The number of rows in all, without the chats to which the model says nothing. The
            questions that it writes are all different.

    Returns:
        The rows and the seconds that writing them took at the time.

    Raises:
        UserError: The chat template does not end a user's turn with an end token, or too few
            questions are useful.
    """
    writer = _Writer(method)
    own = _write_own(writer, method.name, count - len(chats))
    texts = [row["messages"][-2]["content"] for row in own]
    orders = [text for text in texts if text.startswith(OPENINGS)]
    room = method.config.model.max_length - ANSWER_TOKENS
    asked = add_orders(method.tokenizer, chats, orders, room)
    answered = [
        row for i in range(0, len(asked), PART) for row in writer.answer(asked[i : i + PART])
    ]
    rows = [ReplayRow(f"replay-{n}", **row) for n, row in enumerate([*answered, *own], 1)]
    return rows, writer.seconds


def _write_own(writer: "_Writer", name: str, count: int) -> list[dict[str, Any]]:
    own: dict[str, dict[str, Any]] = {}
    most = -(-PATIENCE * count // PART)
    for number in range(most):
        for row in writer.get_part(number):
            own.setdefault(" ".join(row["messages"][-2]["content"].casefold().split()), row)
        if len(own) >= count:
            break
    if len(own) < count:
        raise UserError(
            f"train.replay.source=self: {name} wrote {len(own)} useful rows in {most * PART} "
            f"attempts, but {count} are wanted. Lower train.replay.rows, or set "
            "train.replay.source to a JSONL file of chats."
        )
    return list(own.values())[:count]


def sample(seed: int) -> "Choosing":
    """Return a function that does nucleus sampling (Holtzman et al., 2020) of the likeliest tokens."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def choose(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        probabilities = torch.softmax(logits.float().cpu() / TEMPERATURE, -1)
        ordered, tokens = probabilities.topk(min(TOP_K, probabilities.shape[-1]))
        ordered[ordered.cumsum(-1) - ordered > TOP_P] = 0
        drawn = torch.multinomial(ordered, 1, generator=generator)
        return tokens.gather(-1, drawn).squeeze(-1).to(logits.device)

    return choose


class _Writer:
    """Writes parts and loads the model for the first part that is not in the cache."""

    def __init__(self, method: "Method") -> None:
        self._method = method
        self._config = method.config
        self._tokenizer = method.tokenizer
        self._opening, self._closing = split_user_turn(self._tokenizer)
        self._model: Any = None
        self.seconds = 0.0
        """The time that the rows took when they were written."""
        base = method.base
        dtype = str(get_dtype(self._config.model.dtype))
        weights = base.sha256 or base.revision or base.path
        made_of = [
            weights,
            dtype,
            self._config.train.quantization,
            self._tokenizer.chat_template,
            RECIPE,
        ]
        self._key = sha256_json([*made_of, self._config.model.max_length, self._config.seed])[:24]

    def get_part(self, number: int) -> list[dict[str, Any]]:
        """Return the rows of some questions of the model's own."""

        def chats() -> list[list[Message]]:
            asked = [[{"role": "user", "content": text}] for text in self._ask(number)]
            return alternate_system(self._tokenizer, asked)

        return self._keep(str(number), chats, f"replay answers, part {number + 1}")

    def answer(self, chats: Sequence[list[Message]]) -> list[dict[str, Any]]:
        """Return the rows of given chats."""
        return self._keep(sha256_json(chats)[:24], lambda: list(chats), "replay answers, task")

    def _keep(
        self, name: str, ask: Callable[[], list[list[Message]]], title: str
    ) -> list[dict[str, Any]]:
        folder = cached_folder(
            f"replay/{self._key}-{name}", lambda folder: self._write(ask, title, folder)
        )
        self.seconds += read_json(folder / "facts.json")["seconds"]
        return read_jsonl(folder / "rows.jsonl")

    def _write(self, ask: Callable[[], list[list[Message]]], title: str, folder: Path) -> None:
        started = time.perf_counter()
        chats = ask()
        prompts = [encode_prompt(self._tokenizer, chat) for chat in chats]
        answers = self._generate(prompts, ANSWER_TOKENS, title) if prompts else []
        rows = [
            {
                "messages": [*chat, {"role": "assistant", "content": answer.text}],
                "unfinished": answer.completion_tokens == ANSWER_TOKENS,
            }
            for chat, answer in zip(chats, answers, strict=True)
            if answer.text.strip()
        ]
        write_jsonl(folder / "rows.jsonl", rows)
        write_json(
            folder / "facts.json",
            {"kept": len(rows), "seconds": time.perf_counter() - started},
        )

    def _ask(self, number: int) -> list[str]:
        """Sample questions and keep those that ended, are long enough and do not repeat others."""
        seed = (self._config.seed << 20) + number
        title = f"replay questions, part {number + 1}"
        given = [*[""] * len(OPENINGS), *OPENINGS]
        prompts = [self._encode(self._opening + text) for text in given]
        drawn = self._generate(prompts, QUESTION_TOKENS, title, choose=sample(seed))
        texts = [
            (text + answer.text).strip()
            for text, answer in zip(given, drawn, strict=True)
            if answer.completion_tokens < QUESTION_TOKENS
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
                "train.replay.source=self: the chat template does not end a user's turn with an "
                "end token of the model, so the end of a question cannot be found. Set "
                "train.replay.source to a JSONL file of chats."
            )
        limit = self._config.model.max_batch_tokens
        return generate(
            model,
            self._tokenizer,
            prompts,
            max_new_tokens=tokens,
            max_batch_tokens=limit,
            title=title,
            **others,
        )

    def _encode(self, text: str) -> list[int]:
        return encode_texts(self._tokenizer, [text])[0]

    def _get_model(self) -> Any:
        if self._model is None:
            log.info("%s writes replay rows and keeps them in the cache.", self._method.name)
            config = self._config
            self._model = get_model(
                self._method.base, config.model.dtype, config.train.quantization
            )
        return self._model
