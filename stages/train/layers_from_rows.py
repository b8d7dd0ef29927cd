"""Read training rows before an adapter takes its initial values out of the base model's weights.

CorDA (Yang et al., 2024, arXiv:2406.05223) decomposes the weights of a layer by the covariance of
its inputs. LoRA-GA (Wang et al., 2024, arXiv:2407.05000) takes the directions of the first gradient
of the weights. peft keeps what it finds in the layers, from which it makes the adapter.
"""

import logging
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError
from stages.core.models.generation import batches
from stages.train.initial_values import draw_rows, get_pass_tokens, pad_rows

if TYPE_CHECKING:
    from peft import LoraConfig

    from stages.train.methods.base import Method

log = logging.getLogger(__name__)


def read_rows_for_layers(
    adapter: "LoraConfig | None", method: "Method", model: Any, examples: Any, device: Any
) -> None:
    """Read some training rows if the adapter is made by CorDA or LoRA-GA.

    Args:
        adapter: The configuration of the adapter. `all-linear` is replaced by the names of layers.
        method: The training method.
        model: The model without an adapter.
        examples: The training examples.
        device: The device that computes.

    Raises:
        UserError: peft rejects the rows or the layers.
    """
    if adapter is None or adapter.init_lora_weights not in _READERS:
        return
    import torch
    from peft.tuners.tuners_utils import _maybe_include_all_linear_layers

    kind = str(adapter.init_lora_weights)
    rows = draw_rows(examples, method.seed)
    log.info(
        "train.adapter.init_lora_weights=%s: computing the initial values of the adapter from %d "
        "training rows.",
        kind,
        len(rows),
    )
    _maybe_include_all_linear_layers(adapter, model)
    model.to(device)
    training = model.training
    encoded = [(method.get_row_ids(row), method.get_row_targets(row)) for row in rows]
    with torch.random.fork_rng():  # dropout
        torch.manual_seed(method.seed)
        try:
            _READERS[kind](adapter, method, model, encoded)
        except ValueError as error:
            raise UserError(
                f"train.adapter.init_lora_weights={kind}: peft cannot compute the initial values: "
                f"{error}"
            ) from error
    model.train(training)
    method.metadata["initial_adapter"] = {"kind": kind, "rows": len(rows)}


def _read_covariances(adapter: Any, method: Any, model: Any, rows: list[Any]) -> None:
    """Let peft decompose the weights of each layer.

    peft scales the inputs of each pass by their largest value, so each row has a pass of its own.
    """
    from peft.tuners.lora.corda import preprocess_corda

    def read() -> None:
        for row in rows:
            model(input_ids=pad_rows([row])["input_ids"].to(model.device))

    preprocess_corda(model, adapter, run_model=read)


def _read_gradients(adapter: Any, method: Any, model: Any, rows: list[Any]) -> None:
    """Let peft keep the mean gradient of the weights of each layer."""
    from peft.tuners.lora.loraga import preprocess_loraga

    learned = [(ids, targets) for ids, targets in rows if any(targets[1:])]
    if not learned:
        raise ValueError("none of the rows has a token that is learned")

    def read() -> None:
        limit = get_pass_tokens(method)
        for part in batches([len(ids) for ids, _ in learned], limit):
            batch = pad_rows([learned[i] for i in part])
            model(**{key: value.to(model.device) for key, value in batch.items()}).loss.backward()

    preprocess_loraga(model, adapter, read)


_READERS = {"corda": _read_covariances, "lora_ga": _read_gradients}
