"""The optimizers that `train.args.optim` does not have: LoRA+ and Muon.

Both build on the optimizer that `train.args.optim` names. LoRA+ gives it other learning rates.
Muon leaves it the weights that are not matrices of hidden layers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from transformers.training_args import OptimizerNames

from stages.core.config.train_options import LoraPlus, Muon
from stages.core.errors import UserError
from stages.core.models.classifier import HEADS

OUTPUT = {"lm_head", *HEADS}
"""The names of output layers, which Muon does not update."""
MATRIX = 2  # the number of dimensions


def create_optimizer(trainer: Any, model: Any, plain: Callable[[], Optimizer]) -> Optimizer:
    """Create the optimizer of `train.optimizer`.

    Args:
        trainer: The trainer, whose `own_optimizer` is `train.optimizer`.
        model: The model whose weights are trained.
        plain: A function that creates the optimizer of `train.args.optim`.

    Raises:
        UserError: A library is missing, or the optimizer rejects its arguments or these weights.
    """
    own = trainer.own_optimizer
    try:
        if isinstance(own, LoraPlus):
            return _create_loraplus(own, trainer, model)
        if isinstance(own, Muon):
            return _create_muon(own, trainer, model)
        return plain()
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        raise UserError(explain(str(OptimizerNames(trainer.args.optim).value), error)) from error


def explain(optim: str, error: Exception) -> str:
    """Say which setting an optimizer's error concerns, and which library to install."""
    what = str(error).strip().rstrip(".")
    if isinstance(error, ImportError):
        return (
            f"train.args.optim={optim} needs a library that is not installed ({what}). Install it, "
            "or choose train.args.optim=adamw_torch_fused"
        )
    return f"train.args.optim={optim} or train.optimizer cannot be used: {what}"


def _create_loraplus(own: LoraPlus, trainer: Any, model: Any) -> Optimizer:
    """Create the optimizer of LoRA+ (Hayou et al., 2024, https://arxiv.org/abs/2402.12354)."""
    from peft.optimizers import create_loraplus_optimizer

    kind, options = _get_plain_class(trainer, model)
    return create_loraplus_optimizer(
        model,
        kind,
        loraplus_lr_ratio=own.lr_ratio,
        loraplus_lr_embedding=own.lr_embedding,
        loraplus_weight_decay=trainer.args.weight_decay,
        **options,
    )


def _create_muon(own: Muon, trainer: Any, model: Any) -> Optimizer:
    """Create Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon)."""
    kind, options = _get_plain_class(trainer, model)
    args = trainer.args
    matrices = _find_matrices(model)
    decayed = set(trainer.get_decay_parameter_names(model))
    hidden = []
    others: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name in matrices:
            hidden.append(parameter)
        elif parameter.requires_grad:
            decay = args.weight_decay if name in decayed else 0.0
            others.setdefault(decay, []).append(parameter)
    parts: list[Optimizer] = []
    if hidden:
        parts.append(torch.optim.Muon(hidden, args.learning_rate, args.weight_decay, **own.args))
    if others:
        groups = [{"params": found, "weight_decay": decay} for decay, found in others.items()]
        parts.append(kind(groups, **options))
    return JoinedOptimizer(parts)


def _find_matrices(model: Any) -> set[str]:
    """Return the names of the trained 2-D weights that are not of embeddings or output layers."""
    outer = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    outer += [module for module in [model.get_output_embeddings()] if module is not None]
    embeddings = {id(parameter) for module in outer for parameter in module.parameters()}
    return {
        name
        for name, p in model.named_parameters()
        if p.requires_grad
        and p.ndim == MATRIX
        and id(p) not in embeddings
        and not OUTPUT & set(name.split("."))
        and "lora_embedding_" not in name
    }


def _get_plain_class(trainer: Any, model: Any) -> tuple[Any, dict[str, Any]]:
    """Return the class of `train.args.optim` and its arguments."""
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    plain = isinstance(kind, type) and issubclass(kind, Optimizer)
    if not plain or {"params", "model", "optimizer_dict"} & set(options):
        raise UserError(
            f"train.optimizer={trainer.own_optimizer.kind} groups the weights itself, and so does "
            f"train.args.optim={trainer.args.optim}; choose train.args.optim=adamw_torch_fused or "
            "train/optimizer=none"
        )
    return kind, options


class JoinedOptimizer(Optimizer):
    """Several optimizers, each with its own weights, that a trainer uses as one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        """Take the optimizers, whose groups of parameters this one shares."""
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Share the groups, because a schedule writes the learning rates into them."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do a step of each optimizer."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all optimizers."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states of all optimizers."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()
