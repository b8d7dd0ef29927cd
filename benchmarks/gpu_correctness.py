"""Is training on this GPU right? The checks of `benchmarks.gpu_check`.

Each check compares the fast way with a plain one on a small model, whose heads have the size of
those of real models.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from benchmarks.gpu_rates import Case, make_ours
from benchmarks.gpu_shapes import IGNORED, TOYS, Shape, make_rows

COSINE = 0.999  # between the gradients of two attentions in bfloat16, at least
SAME_LOSS = 0.01  # relative, in bfloat16
TESTS = ("tests/train/test_every_option.py", "-p", "no:cacheprovider")
PROMPTS = ("Who is Ann?", "Say very very 7.", "What did Acme Inc. sign with the Bank of Nowhere?")


class Check(NamedTuple):
    """The outcome of one check."""

    name: str
    passed: bool
    found: str


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
    checks: dict[str, Callable[[], Check]] = {}
    for shape in get_shapes(rehearsal):
        for name, change in {
            "varlen": {"attention": "varlen"},
            "varlen in small passes": {"attention": "varlen", "tokens": 64},
            "varlen, recomputed": {"attention": "varlen", "checkpointing": True},
        }.items():
            title = f"gradients, {name}, {shape.name.removeprefix('toy, ')}"
            checks[title] = lambda t=title, s=shape, c=change: compare_gradients(t, s, c)  # type: ignore[misc]
    checks["answers are those of generate"] = compare_answers
    if not rehearsal:  # the tests of a CPU run these without a GPU
        checks["every option of train"] = run_options
    return checks


def compare_gradients(name: str, shape: Shape, change: dict[str, Any]) -> Check:
    """Compare loss and gradients of one step with those of padded rows and PyTorch's attention."""
    import torch
    from torch.nn.functional import cosine_similarity

    plain = Case("this stage", shape.name, "short", attention="sdpa", tokens=4096)
    loss, gradients = step(plain, shape)
    other, others = step(replace(plain, **change), shape)
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
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = make_ours(case, shape, rows, len(rows), folder)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:  # which is 0 at first, so that half of the gradients would be 0
                torch.nn.init.normal_(parameter, std=0.02)
        trainer.accelerator.prepare_model(trainer.model)
        trainer.create_optimizer()
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        counted = (batch["labels"] != IGNORED).sum()
        loss = trainer.training_step(trainer.model, batch, counted)
    found = [p.grad.float().flatten() for p in trainer.model.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat(found)


def compare_answers() -> Check:
    """Compare our answers with those of transformers' `generate`, in float32."""
    from benchmarks.answers import answer_plainly
    from benchmarks.gpu_rates import get_base
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
    name = "answers are those of generate"
    return Check(name, same == len(prompts), f"{same} of {len(prompts)} texts are the same")


def run_options() -> Check:
    """Run the tests of every option of `train`, with the GPU in their sight."""
    command = [sys.executable, "-m", "pytest", *TESTS]
    environment = os.environ | {"TUNEPROOF_TEST_GPU": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    found = "; ".join(lines[:5]) if lines else done.stdout.strip().splitlines()[-1]
    return Check("every option of train", done.returncode == 0, found)
