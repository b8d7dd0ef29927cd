"""Compute the initial values of an adapter from training rows.

EVA (Paischer et al., 2024, arXiv:2410.07170) begins with the directions in which the inputs of a
layer vary most, and gives more rank to layers whose inputs need more directions. Only the matrix A
is set. B is 0, so the base model stays as it is.
"""

import logging
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.config.adapter import is_eva
from stages.core.errors import UserError
from stages.core.models.generation import batches
from stages.train.examples import IGNORED

if TYPE_CHECKING:
    import torch

    from stages.train.methods.base import Method

log = logging.getLogger(__name__)
KEY = "train.adapter.init_lora_weights=eva"
ROWS = 64
# In one forward pass. Without gradients it takes less memory than a training pass of this size. It
# does not depend on the device, because the values depend on the batches.
BATCH_TOKENS = 768
# On the default model 116 of 120 layers had not converged by peft's measure after 16 passes over 8
# batches of 768 tokens, and 110 after 22. But in each of 12 layers the directions after 16 passes
# held as much of the variance of the inputs as any of their number can, up to 0.0004 of it. After 3
# passes up to 0.11 was missing.
PASSES = 16
TOKENS = PASSES * BATCH_TOKENS  # of all rows, unless the first one is longer
ANY = -2.0  # A cosine is always larger.
A = ".lora_A.weight"


def initialize_from_rows(trainer: Any, method: "Method", checkpoint: Path | None) -> None:
    """Compute the initial values of the adapter if `train.adapter` asks for it.

    A run that resumes takes the ranks from its checkpoint, from which the values are loaded later.
    What was done goes into `method.metadata["initial_adapter"]`.

    Args:
        trainer: The trainer, before training.
        method: The training method.
        checkpoint: The checkpoint from which training will resume, or None.

    Raises:
        UserError: The rows or the layers are too small for the ranks.
    """
    if not is_eva(method.config.train.adapter):
        return
    from peft import initialize_lora_eva_weights

    rows = draw_rows(trainer.train_dataset, method.seed)
    model = trainer.model
    if checkpoint:
        state = _read_shapes(checkpoint, model)
    else:
        with trainer.autocast():
            state = _of_first_process(_compute(model, _make_batches(rows, method, model)))
    initialize_lora_eva_weights(model, eva_state_dict=state)
    ranks = [rank for layer in _get_layers(model).values() for rank in layer.r.values()]
    method.metadata["initial_adapter"] = {
        "kind": "eva",
        "rows": len(rows),
        "ranks": {"least": min(ranks), "most": max(ranks)},
        "layers": len(ranks),
    }
    log.info(
        "%s: %d layers have an adapter, of ranks %d to %d.", KEY, len(ranks), min(ranks), max(ranks)
    )


def draw_rows(examples: Any, seed: int) -> list[dict[str, Any]]:
    """Draw some examples of training, replay rows included, of at most `TOKENS` tokens in all."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator)[:ROWS].tolist()
    rows = [examples[i] for i in order]
    sizes = accumulate(row["length"] for row in rows)
    return [row for row, size in zip(rows, sizes, strict=True) if size <= TOKENS] or rows[:1]


def _make_batches(
    rows: Sequence[dict[str, Any]], method: "Method", model: Any
) -> list[dict[str, "torch.Tensor"]]:
    """Make batches that each have enough tokens for the largest rank that a layer may get.

    Raises:
        UserError: No batch has enough tokens.
    """
    settings = model.peft_config["default"]
    needed = _count_directions(settings)
    _check_layers(model, needed)
    limit = get_pass_tokens(method)
    encoded = [(method.get_row_ids(row), method.get_row_targets(row)) for row in rows]
    parts = list(batches([len(ids) for ids, _ in encoded], limit))
    made = [pad_rows([encoded[i] for i in part]) for part in parts]
    key = "labels" if settings.eva_config.use_label_mask else "attention_mask"
    nothing = IGNORED if key == "labels" else 0
    counts = [int((batch[key] != nothing).sum()) for batch in made]
    large = [batch for batch, count in zip(made, counts, strict=True) if count >= needed]
    if not large:
        what = "tokens that are learned" if key == "labels" else "tokens"
        raise UserError(
            f"{KEY} needs {needed} {what} in one pass, which is train.adapter.r times "
            f"eva_config.rho, and no pass of up to {limit} tokens over {len(rows)} training rows "
            f"has more than {max(counts)}. Lower r, or set "
            "train.adapter.eva_config={use_label_mask: false} to read all tokens, or "
            "init_lora_weights=true."
        )
    return large


def _count_directions(settings: Any) -> int:
    """Return how many directions of a layer are computed, which is the largest rank it may get."""
    largest = max(settings.r, *settings.rank_pattern.values(), 0)
    return round(largest * settings.eva_config.rho)


def _check_layers(model: Any, needed: int) -> None:
    for name, layer in _get_layers(model).items():
        if layer.in_features < needed:
            raise UserError(
                f"{KEY} may give a layer the rank {needed}, which is train.adapter.r times "
                f"eva_config.rho, and {name} has {layer.in_features} inputs. Lower r, or set "
                "train.adapter.eva_config={rho: 1}."
            )


def get_pass_tokens(method: "Method") -> int:
    """Return how many tokens a pass may have, padding included."""
    given = method.config.train.micro_batch_tokens
    return BATCH_TOKENS if given == "auto" else min(BATCH_TOKENS, given)


def pad_rows(rows: Sequence[tuple[list[int], list[bool]]]) -> dict[str, "torch.Tensor"]:
    """Return a batch padded on the right, which any model reads without positions."""
    import torch

    width = max(len(ids) for ids, _ in rows)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for ids, targets in rows:
        rest = width - len(ids)
        labels = [token if target else IGNORED for token, target in zip(ids, targets, strict=True)]
        batch["input_ids"].append(ids + [0] * rest)
        batch["attention_mask"].append([1] * len(ids) + [0] * rest)
        batch["labels"].append(labels + [IGNORED] * rest)
    return {key: torch.tensor(values) for key, values in batch.items()}


def _compute(model: Any, parts: Sequence[dict[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
    """Compute the directions of each layer.

    peft reads the batches again and again until every layer has converged, which may be never.
    After `PASSES` passes what was found is taken.

    Raises:
        UserError: peft cannot compute them.
    """
    from peft import get_eva_state_dict

    log.info(
        "%s: computing the initial values of the adapter, in at most %d passes over %d batch(es).",
        KEY,
        PASSES,
        len(parts),
    )
    passes = 0

    def read(model: Any, inputs: dict[str, "torch.Tensor"]) -> None:
        nonlocal passes
        passes += 1
        if passes > PASSES:
            _accept_directions(model)
        if passes > 2 * PASSES:
            raise UserError(f"{KEY}: the directions are not finite numbers; choose another kind.")
        # Without the labels, whose loss would cost memory.
        model(**{key: value for key, value in inputs.items() if key != "labels"})

    try:
        state = get_eva_state_dict(
            model,
            parts,
            forward_fn=read,
            gather_distributed_inputs=False,
            show_progress_bar=False,
        )
    except (ValueError, IndexError) as error:
        raise UserError(f"{KEY}: peft cannot compute the initial values: {error}") from error
    log.info("%s: it took %d passes.", KEY, passes)
    return state


def _accept_directions(model: Any) -> None:
    """Let every layer count as converged after its next pass."""
    from peft.tuners.lora.eva import SVDHook

    for module in model.modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, SVDHook):
                hook.sim_thresh = ANY


def _of_first_process(state: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Return the values of the first process, so that all processes have the same shapes."""
    from accelerate.utils import broadcast_object_list

    shared = [{name: tensor.cpu() for name, tensor in state.items()}]
    return broadcast_object_list(shared)[0]


def _read_shapes(checkpoint: Path, model: Any) -> dict[str, "torch.Tensor"]:
    """Return the values of a checkpoint by layer, and no rows for a layer without an adapter."""
    import torch
    from safetensors.torch import load_file

    saved = load_file(checkpoint / "adapter_model.safetensors")
    found = {name.removesuffix(A): w for name, w in saved.items() if name.endswith(A)}
    nothing = {
        name: torch.empty(0, layer.in_features) for name, layer in _get_layers(model).items()
    }
    return nothing | found


def _get_layers(model: Any) -> dict[str, Any]:
    """Return the layers with an adapter whose initial values are computed from rows, by name."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.eva import UNSUPPORTED_LORA_MODULES

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer) and not isinstance(module, UNSUPPORTED_LORA_MODULES)
    }
