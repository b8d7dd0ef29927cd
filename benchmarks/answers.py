"""Compare the speed and the texts of `stages.core.models.generation` with plain `model.generate`.

    python -m benchmarks.answers [ROWS]

Needs the outputs of `dvc repro`. Both answer the same prompts of the test split for each arm, once
in the precision of the configuration and once in float32. The plain side calls transformers'
`generate` in batches of 8 in the order of the file.

The benchmark counts the texts that differ and reports the largest gap between the two best logits
at the first different token. In bfloat16 a sum depends on the other rows of the batch, so a tie can
go either way. Writes `benchmarks/results/answers.json`.
"""

import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from benchmarks.table import show
from stages.baseline.candidates import Candidate
from stages.baseline.shots import draw_shots
from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import Config, read_params
from stages.core.data.predictions import PREDICTIONS
from stages.core.data.prompts import build_prompt, encode_prompt
from stages.core.data.records import read_records
from stages.core.entrypoint import tool_main
from stages.core.models.base_models import get_base_model
from stages.core.models.generation import generate
from stages.core.models.loading import get_model, get_tokenizer, get_tuned_model
from stages.core.storage.files import read_json

RESULT = Path("benchmarks/results/answers.json")
PLAIN_BATCH = 8
WARM_TOKENS = 8  # new tokens of an answer in the warm-up


@tool_main("answers")
def main() -> None:
    """Measure every arm in both precisions, write the results and print them as a table."""
    config = read_params()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    base = get_base_model(config.model, config.seed)
    tokenizer = get_tokenizer(base)
    table = []
    for dtype in (config.model.dtype, "float32"):
        plain = get_model(base, dtype)
        models = {"few_shot": plain, "zero_shot": plain, TUNED_ARM: get_tuned_model(base, dtype)}
        for arm, model in models.items():
            prompts = get_prompts(config, tokenizer, arm, count)
            table.append({"dtype": dtype, "arm": arm, **measure(config, model, tokenizer, prompts)})
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(table, indent=2))
    show(table)


def get_prompts(config: Config, tokenizer: Any, arm: str, count: int) -> list[list[int]]:
    """Build the prompts of an arm for the first rows of the test split."""
    test = read_records("test")[:count]
    train = read_records("train")
    if arm == TUNED_ARM:
        return [
            encode_prompt(tokenizer, build_prompt(record, config.prompt.tuned_system_prompt))
            for record in test
        ]
    choice = read_json(PREDICTIONS / "choices.json")[arm]
    chosen = Candidate(**{field.name: choice[field.name] for field in fields(Candidate)})
    shots = draw_shots(train, chosen)  # empty for zero_shot
    return [
        encode_prompt(tokenizer, build_prompt(record, choice["instruction"], shots))
        for record in test
    ]


def measure(config: Config, model: Any, tokenizer: Any, prompts: list[list[int]]) -> dict[str, Any]:
    """Measure the rows per second of both, the texts that differ and the largest logit gap."""
    limit = config.prompt.max_new_tokens
    warm_up(config, model, tokenizer, prompts)
    started = time.perf_counter()
    parts = [prompts[i : i + PLAIN_BATCH] for i in range(0, len(prompts), PLAIN_BATCH)]
    plain = [text for part in parts for text in answer_plainly(model, tokenizer, part, limit)]
    plain_seconds = time.perf_counter() - started
    started = time.perf_counter()
    ours = generate(
        model,
        tokenizer,
        prompts,
        max_new_tokens=limit,
        max_batch_tokens=config.model.max_batch_tokens,
        title="ours",
    )
    seconds = time.perf_counter() - started
    others = [i for i, (one, two) in enumerate(zip(plain, ours, strict=True)) if one != two.text]
    gaps = [get_gap(model, tokenizer, prompts[i], plain[i], ours[i].text) for i in others]
    return {
        "plain rows/s": len(prompts) / plain_seconds,
        "rows/s": len(prompts) / seconds,
        "ratio": plain_seconds / seconds,
        "rows": len(prompts),
        "texts that differ": len(others),
        "largest gap": max(gaps, default=0.0),
    }


def warm_up(config: Config, model: Any, tokenizer: Any, prompts: list[list[int]]) -> None:
    """Answer a few prompts in both ways on a GPU, which chooses its kernels at their first call."""
    if model.device.type == "cpu":
        return
    few = prompts[:PLAIN_BATCH]
    answer_plainly(model, tokenizer, few, WARM_TOKENS)
    limits = {"max_new_tokens": WARM_TOKENS, "max_batch_tokens": config.model.max_batch_tokens}
    generate(model, tokenizer, few, title="warm-up", **limits)


@torch.inference_mode()
def answer_plainly(model: Any, tokenizer: Any, prompts: list[list[int]], limit: int) -> list[str]:
    """Answer as a simple script would: pad on the left, call `generate`, decode."""
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    found = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=limit,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)


@torch.inference_mode()
def get_gap(model: Any, tokenizer: Any, prompt: list[int], one: str, two: str) -> float:
    """Return the gap between the two best logits at the first different token, without a batch."""
    a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (one, two))
    shared = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    ids = torch.tensor([prompt + a[:shared]], device=model.device)
    best = model(ids).logits[0, -1].float().topk(2).values
    return float(best[0] - best[1])


if __name__ == "__main__":
    main()
