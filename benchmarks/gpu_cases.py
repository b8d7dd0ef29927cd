"""What `benchmarks.gpu_check` measures: ways to train a model, and what each of them needs."""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from benchmarks.gpu_shapes import (
    LENGTHS,
    SHAPES,
    SMALL_SHAPES,
    SMALL_TOYS,
    TOYS,
    get_shape,
)
from benchmarks.others import ENVIRONMENT, has_gpu

WARM_STEPS = 2  # in which kernels are chosen, compiled and given their memory
STEPS = 8  # that are measured, unless they take too long
TOY_STEPS = 1
FIRST = 4  # ways to train that all models take part in
NO_UNSLOTH = f"not run: {ENVIRONMENT} names no interpreter that has Unsloth"
OURS = "this stage, varlen, auto"


@dataclass(frozen=True, slots=True)
class Case:
    """One way to train one model on one kind of rows."""

    contender: str
    shape: str
    rows: str
    """`short` or `long`."""
    attention: str = "varlen"
    tokens: int | None = None
    """The most tokens of a pass. None is what `train.micro_batch_tokens=auto` chooses."""
    rival: str | None = None
    """`padded`, `packed` or `padding_free` for TRL's own trainer, or `unsloth`. None is ours."""
    liger: bool = False
    compiled: bool = False
    checkpointing: bool = False
    float16: bool = False
    """Whether the products run in float16. Otherwise they run in bfloat16."""
    grpo: bool = False
    """Whether the model learns from rewards for its own answers instead of from the rows."""
    continuous: bool = False
    """Whether these answers are made by transformers' continuous batching."""
    profile: bool = False
    """Whether to find the lines where the processor waits for the GPU, instead of the rate."""

    @property
    def toy(self) -> bool:
        """Whether this is a rehearsal."""
        return self.shape.startswith("toy")

    @property
    def steps(self) -> int:
        """How many optimizer steps are trained."""
        return WARM_STEPS + (TOY_STEPS if self.toy else STEPS)


def get_cases(rehearsal: bool) -> list[Case]:
    """List what is measured, the most important first.

    The first model takes part in every way, the others in those that matter most. A case that
    cannot run here is listed too, because the table says why it is missing.
    """
    ways = get_ways((16, 48, 96) if rehearsal else (768, 16_384, 65_536))
    names = [shape.name for shape in (TOYS if rehearsal else SHAPES)]
    short, long = LENGTHS
    kinds = [(name, rows) for name in names for rows in (short, long)]
    if rehearsal:
        kinds = kinds[:-1]
    cases = [Case(shape=name, rows=rows, **way) for name, rows in kinds for way in ways[:FIRST]]
    first = 2 * FIRST  # of the first model
    cases[first:first] = get_other_cases(names[0], rehearsal)
    for rows in (short,) if rehearsal else (short, long):
        cases += [Case(shape=names[0], rows=rows, **way) for way in ways[FIRST:]]
    return cases


def get_ways(pieces: tuple[int, int, int]) -> list[dict[str, Any]]:
    """List the ways to train on the rows, for a small, a middle and a large number of tokens."""
    small, middle, large = pieces
    return [
        {"contender": "this stage as on a CPU: padded, few tokens", "attention": "sdpa"}
        | {"tokens": small},
        {"contender": OURS},
        {"contender": "TRL, padding-free", "rival": "padding_free"},
        {"contender": "TRL, packed", "rival": "packed"},
        {"contender": "Unsloth", "rival": "unsloth"},
        {"contender": "this stage, varlen, 16k", "tokens": middle},
        {"contender": "this stage, varlen, 64k, recomputed", "tokens": large}
        | {"checkpointing": True},
        {"contender": "this stage, padded, 16k", "attention": "sdpa", "tokens": middle},
        {"contender": "this stage, varlen, auto, compiled", "compiled": True},
        {"contender": "this stage, varlen, auto, Liger", "liger": True},
        {"contender": "TRL, padded", "rival": "padded", "attention": "sdpa"},
    ]


def get_other_cases(name: str, rehearsal: bool) -> list[Case]:
    """List one case of each other kind: a profile, less memory for weights, and rewards.

    Args:
        name: The model of the profile and of the rewards.
        rehearsal: Whether the other models are toys.
    """
    short, long = LENGTHS
    small = [shape.name for shape in (SMALL_TOYS if rehearsal else SMALL_SHAPES)]
    answers: dict[str, Any] = {"shape": name, "rows": short, "attention": "sdpa", "grpo": True}
    return [
        Case("host synchronisations", name, short, profile=True),
        *(Case(OURS, shape, long) for shape in small),
        Case("this stage, GRPO", **answers),
        Case("this stage, GRPO, continuous batching", **answers, continuous=True),
    ]


def get_missing(case: Case) -> str | None:
    """Return why a case cannot run here, or None if it can."""
    shape = get_shape(case.shape)
    packages = {
        "liger_kernel": case.liger,
        "bitsandbytes": shape.quantized or shape.lean,
    }
    for package, needed in packages.items():
        if needed and not find_spec(package):
            return f"not run: {package.replace('_', '-')} is not installed"
    if case.rival == "unsloth" and get_python() is None:
        return NO_UNSLOTH
    if (case.liger or case.continuous or case.rival == "unsloth") and not has_gpu():
        return "not run: needs a GPU"
    return None


def get_python() -> str | None:
    """Return the interpreter that has Unsloth, or None if there is none."""
    return os.environ.get(ENVIRONMENT) or (sys.executable if find_spec("unsloth") else None)
