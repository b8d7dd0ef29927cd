"""Generation of answers to many prompts in batches bounded by tokens, greedy by default."""

import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stages.core.data.end_tokens import get_end_ids
from stages.core.data.thoughts import decode_answer
from stages.core.models.base_models import list_ids
from stages.core.models.caches import get_batching
from stages.core.models.constraint import Walk, build_trie

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

Prompt = list[int]
Choosing = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""A function that chooses the next tokens of rows from their logits and their batch indices."""
# Tokens per forward pass on a CPU, whose caches are small. Few-shot took 13 % longer with 1,024,
# and 20 % longer with 2,048.
PREFILL_TOKENS = 512
PREFILL_TOKENS_GPU = 8192


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the model to one prompt."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    """Tokens of the answer, including the end token if there is one."""
    seconds: float
    """The batch's wall time divided by its rows, plus the row's share of the common prefix."""
    cut: bool
    """Whether the limit ended the answer instead of an end token."""
    ids: tuple[int, ...] = ()
    """The token ids of the answer."""


def choose_likeliest(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Choose the most likely token of each row, which is greedy decoding."""
    return logits.argmax(-1)


@torch.inference_mode()
def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    max_batch_tokens: int,
    title: str | None,
    choose: Choosing = choose_likeliest,
    allowed: Sequence[Prompt] | None = None,
    ignore_eos: bool = False,
) -> list[Answer]:
    """Answer every prompt, in the order given, and show a progress bar.

    The common prefix of all prompts is computed once. Rows of similar length share a batch, and a
    finished row leaves its batch. Where the cache of the model does not allow this, such as beyond a
    sliding window, transformers generates the answers.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: The tokenizer of the model.
        prompts: The token ids of each prompt.
        max_new_tokens: The number of tokens after which an answer is cut.
        max_batch_tokens: The maximum number of padded tokens of prompts and answers in one batch. A
            batch has at least one row.
        title: The title of the progress bar. With None no bar is shown.
        choose: The function that chooses the next tokens. A function that samples needs its own
            seeded generator.
        allowed: The token ids of the only allowed answers, each with an end token. At each step the
            most likely allowed token is chosen. None allows every answer.
        ignore_eos: Whether every answer takes all `max_new_tokens`, even after an end token. This
            is for timings.

    Raises:
        UserError: The model keeps nothing of the tokens that it has read.
    """
    from tqdm import tqdm

    from stages.core.models.library_generation import complete

    batching = get_batching(model)
    room = batching.room - max_new_tokens  # for a prompt
    started = time.perf_counter()
    trie = build_trie(allowed) if allowed else None
    ends = set() if ignore_eos else end_tokens(model, tokenizer)
    prefix = common_prefix(prompts) if min(map(len, prompts)) <= room else 0
    cache = _prefill_prefix(model, prompts[0][:prefix]) if prefix else None
    prefix_seconds = (time.perf_counter() - started) / len(prompts)
    answers: dict[int, Answer] = {}
    with tqdm(
        total=len(prompts), desc=title, unit="row", mininterval=1, disable=title is None
    ) as bar:
        for batch in batches(
            [len(prompt) + max_new_tokens for prompt in prompts], max_batch_tokens
        ):
            started = time.perf_counter()
            rows = [prompts[i] for i in batch]
            step = Walk(trie, len(batch)).choose if trie else choose
            limits = {"max_new_tokens": max_new_tokens, "ends": ends, "pad": tokenizer.pad_token_id}
            if len(rows[0]) <= room:
                rests = [row[prefix:] for row in rows]
                completions = _decode_batch(model, rests, cache, prefix, step, **limits)
            else:
                completions = complete(model, rows, step, padded=batching.padded, **limits)
            seconds = (time.perf_counter() - started) / len(batch) + prefix_seconds
            for i, ids in zip(batch, completions, strict=True):
                text = decode_answer(tokenizer, ids)
                answers[i] = Answer(
                    text, len(prompts[i]), len(ids), seconds, ids[-1] not in ends, tuple(ids)
                )
            bar.update(len(batch))
    return [answers[i] for i in range(len(prompts))]


def common_prefix(prompts: Sequence[Prompt]) -> int:
    """Return the length of the common prefix that leaves each prompt one token of its own."""
    first = min(prompts)
    last = max(prompts)  # in lexical order, first and last differ earliest
    shared = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return min(shared, min(map(len, prompts)) - 1) if len(prompts) > 1 else 0


def batches(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Yield the indices of rows in batches of similar length, the longest rows first.

    A batch has at most `limit` padded tokens, or a single row.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > limit:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _prefill_prefix(model: "PreTrainedModel", prefix: Prompt) -> "Cache":
    return model(
        torch.tensor([prefix], device=model.device), use_cache=True, logits_to_keep=1
    ).past_key_values


def _decode_batch(
    model: "PreTrainedModel",
    rests: list[Prompt],
    prefix_cache: "Cache | None",
    prefix: int,
    choose: Choosing,
    *,
    max_new_tokens: int,
    ends: set[int],
    pad: int,
) -> list[list[int]]:
    """Complete the prompts of one batch.

    `rests` are the parts of the prompts after the first `prefix` tokens. `prefix_cache` has the
    states of these tokens for one row.
    """
    width = max(map(len, rests))
    ids = torch.tensor([[pad] * (width - len(r)) + r for r in rests], device=model.device)
    mask = torch.tensor(
        [[1] * prefix + [0] * (width - len(r)) + [1] * len(r) for r in rests], device=model.device
    )
    cache, token = _prefill(model, ids, mask, prefix_cache, choose)
    position = mask.sum(-1, keepdim=True)
    rows = list(range(len(rests)))  # the completion that each row of the shrinking batch belongs to
    completions: list[list[int]] = [[] for _ in rests]
    for step in range(1, max_new_tokens + 1):
        for row, value in zip(rows, token.tolist(), strict=True):
            completions[row].append(value)
        going = [i for i, row in enumerate(rows) if completions[row][-1] not in ends]
        if not going or step == max_new_tokens:
            break
        if len(going) < len(rows):
            keep = torch.tensor(going, device=model.device)
            cache.batch_select_indices(keep)
            rows = [rows[i] for i in going]
            token = token[keep]
            mask = mask[keep]
            position = position[keep]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        out = model(
            token[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )
        token = choose(out.logits[:, -1], rows)
        position = position + 1
    return completions


def _prefill(
    model: "PreTrainedModel",
    ids: torch.Tensor,
    mask: torch.Tensor,
    prefix_cache: "Cache | None",
    choose: Choosing,
) -> tuple["Cache", torch.Tensor]:
    """Compute the cache of a whole batch and the first token of each row.

    A few rows are computed at a time, so that they need little padding.
    """
    prefix = mask.shape[1] - ids.shape[1]
    width = ids.shape[1]
    limit = PREFILL_TOKENS if ids.device.type == "cpu" else PREFILL_TOKENS_GPU
    caches = []
    tokens = []
    start = 0
    while start < len(ids):
        longest = int(mask[start, prefix:].sum())  # the rows are sorted, the longest first
        rows = slice(start, start + max(1, limit // longest))
        seen = torch.cat([mask[rows, :prefix], mask[rows, mask.shape[1] - longest :]], dim=1)
        cache = deepcopy(prefix_cache)
        if cache is not None:
            cache.batch_repeat_interleave(len(seen))
        out = model(
            ids[rows, width - longest :],
            attention_mask=seen,
            position_ids=(seen.cumsum(-1) - 1).clamp(min=0)[:, prefix:],
            past_key_values=cache,
            use_cache=True,
            # This is an index instead of the number 1, because a number gives a slice. A slice is
            # not contiguous, and then the head is copied for every row.
            logits_to_keep=torch.tensor([longest - 1], device=model.device),
        )
        caches.append(out.past_key_values)
        tokens.append(choose(out.logits[:, -1], range(len(ids))[rows]))
        start = rows.stop
    return _join(caches, prefix, prefix + width), torch.cat(tokens)


def _join(caches: list["Cache"], prefix: int, length: int) -> "Cache":
    """Join caches into one, and pad each row to `length` positions directly after the prefix."""

    def widen(states: torch.Tensor) -> torch.Tensor:
        gap = states.new_zeros(*states.shape[:2], length - states.shape[2], states.shape[3])
        return torch.cat([states[:, :, :prefix], gap, states[:, :, prefix:]], dim=2)

    for layers in zip(*(cache.layers for cache in caches), strict=True):
        if layers[0].keys is None:  # such a layer reads the states of another one
            continue
        layers[0].keys = torch.cat([widen(layer.keys) for layer in layers])
        layers[0].values = torch.cat([widen(layer.values) for layer in layers])
    return caches[0]


def end_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Return every token that ends an answer.

    These are the end token of the tokenizer, the end of a turn of the chat template, and the end
    tokens of the model's generation settings.
    """
    return get_end_ids(tokenizer) | list_ids(model.generation_config.eos_token_id)


def add_end_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Add the tokens that end an answer to the generation settings of a model.

    Whoever generates with the model then stops where this project does.
    """
    settings = model.generation_config
    known = list_ids(settings.eos_token_id)
    if not get_end_ids(tokenizer) <= known:
        settings.eos_token_id = sorted(known | get_end_ids(tokenizer))
