"""Is training on this GPU right? The checks of `benchmarks.gpu_check`.

    python -m benchmarks.gpu_correctness NAME    # one check; prints its outcome as JSON

Each check compares the fast way with a plain one on a small model, whose heads have the size of
those of real models. `benchmarks.gpu_check` runs each in a process of its own, which it can end.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from benchmarks.gpu_cases import Case, get_missing
from benchmarks.gpu_rates import make_ours
from benchmarks.gpu_shapes import IGNORED, TOYS, Shape, make_rows
from benchmarks.others import has_gpu

COSINE = 0.999  # between the gradients of two attentions in 16 bits, at least
SAME_LOSS = 0.01  # relative, in 16 bits
SCALE = 1024.0  # of the loss in float16, in which small gradients would be 0
CHANGES: dict[str, dict[str, Any]] = {
    "varlen": {},
    "varlen in small passes": {"tokens": 64},
    "varlen, recomputed": {"checkpointing": True},
    "varlen, float16": {"float16": True},
    "varlen, Liger": {"liger": True},
}
PROMPTS = ("Who is Ann?", "Say very very 7.", "What did Acme Inc. sign with the Bank of Nowhere?")


class Check(NamedTuple):
    """The outcome of one check."""

    name: str
    passed: bool | None
    """None if it was not run."""
    found: str


def main() -> None:
    """Run the check on the command line."""
    print(json.dumps(get_checks(False)[sys.argv[1]]()))  # noqa: T201


def get_shapes(rehearsal: bool) -> list[Shape]:
    """Return the small models of the checks, one with an adapter and one without."""
    if rehearsal:
        return list(TOYS)
    return [
        replace(shape, hidden=256, intermediate=512, heads=4, key_heads=2, head=64, vocabulary=4096)
        for shape in TOYS
    ]


def get_checks(rehearsal: bool) -> dict[str, Callable[[], Check]]:
    """Return the checks by name."""
    from benchmarks.gpu_tests import TESTS, run_tests

    checks: dict[str, Callable[[], Check]] = {}
    for shape in get_shapes(rehearsal):
        for name, change in CHANGES.items():
            title = f"gradients, {name}, {shape.name.removeprefix('toy, ')}"
            checks[title] = partial(compare_gradients, title, shape, change)
    answers = "answers are those of generate"
    checks[answers] = partial(compare_answers, answers)
    for name, arguments in TESTS.items():
        checks[name] = partial(run_tests, name, arguments)
    return checks


def compare_gradients(name: str, shape: Shape, change: dict[str, Any]) -> Check:
    """Compare loss and gradients of one step with those of padded rows and PyTorch's attention."""
    import torch
    from torch.nn.functional import cosine_similarity

    case = Case("this stage", shape.name, "short", **{"tokens": 4096, **change})
    missing = get_missing(case)
    if missing:
        return Check(name, None, missing)
    plain = Case(
        "this stage", shape.name, "short", attention="sdpa", tokens=4096, float16=case.float16
    )
    loss, gradients = step(plain, shape)
    other, others = step(case, shape)
    cosine = float(cosine_similarity(gradients, others, 0))
    norms = float(others.norm() / gradients.norm())
    apart = abs(other - loss) / loss
    right = cosine > COSINE and apart < SAME_LOSS and abs(norms - 1) < 10 * SAME_LOSS
    finite = bool(torch.isfinite(others).all())
    found = f"cosine {cosine:.5f}, ratio of norms {norms:.4f}, losses {loss:.4f} and {other:.4f}"
    return Check(name, right and finite, found)


def step(case: Case, shape: Shape) -> tuple[float, Any]:
    """Return the loss and all gradients of one batch."""
    import torch

    torch.manual_seed(0)
    rows = make_rows(30, 400, shape.vocabulary)
    # On a CPU the library refuses float16, which torch can compute there.
    emulated = torch.autocast("cpu", torch.float16, enabled=case.float16 and not has_gpu())
    with tempfile.TemporaryDirectory() as folder, emulated:
        trainer, _ = make_ours(case, shape, rows, len(rows), folder)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:  # which is 0 at first, so that half of the gradients would be 0
                torch.nn.init.normal_(parameter, std=0.02)
        trainer.accelerator.prepare_model(trainer.model)
        trainer.create_optimizer()
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        scaled = trainer.accelerator.scaler is not None
        if scaled:  # with the scale of long training, because the first one overflows on purpose
            trainer.accelerator.scaler = torch.amp.GradScaler(init_scale=SCALE)
        counted = (batch["labels"] != IGNORED).sum()
        loss = trainer.training_step(trainer.model, batch, counted)
    scale = SCALE if scaled else 1.0
    found = [p.grad.float().flatten() for p in trainer.model.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat(found) / scale


def compare_answers(name: str) -> Check:
    """Compare our answers with those of transformers' `generate`, in float32."""
    from benchmarks.answers import answer_plainly
    from benchmarks.gpu_models import get_base
    from stages.core.models.generation import generate
    from stages.core.models.loading import get_model, get_tokenizer

    base = get_base()
    tokenizer = get_tokenizer(base)
    model = get_model(base, "float32")
    prompts = [tokenizer.encode(text) for text in PROMPTS]
    plain = answer_plainly(model, tokenizer, prompts, 16)
    ours = generate(
        model, tokenizer, prompts, max_new_tokens=16, max_batch_tokens=512, title="answers"
    )
    same = sum(one == two.text for one, two in zip(plain, ours, strict=True))
    return Check(name, same == len(prompts), f"{same} of {len(prompts)} texts are the same")


if __name__ == "__main__":
    main()
