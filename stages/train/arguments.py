"""Build the arguments of TRL and transformers and choose the attention implementation."""

from typing import TYPE_CHECKING, Any

from stages.core.config.train import ON_POLICY, TrainConfig
from stages.core.environment.processes import is_sharded
from stages.core.errors import UserError
from stages.core.models.loading import get_device, get_dtype

if TYPE_CHECKING:
    from stages.train.methods.base import Method

EAGER_TOKENS = 512  # See choose_attention.
# What `train.args` may override.
DEFAULTS = {"bf16", "fp16", "ddp_find_unused_parameters", "accelerator_config"}
# The number of checkpoints to keep: the last one, the best one, and the one before the last in
# case the last one is incomplete.
KEPT = 3
ORDERS = ("random", "sequential", "group_by_length")  # of the rows in an epoch


def get_arguments(
    method: "Method", given: dict[str, Any], folder: str, lower_is_better: bool
) -> Any:
    """Build the training arguments for a method's trainer.

    Args:
        method: The training method, which defines the class of the arguments.
        given: `train.args` with `auto` replaced by numbers.
        folder: The folder for checkpoints.
        lower_is_better: Whether a lower value of the metric `train.best.metric` is better.

    Raises:
        UserError: If the class does not know an argument or rejects its value, or if Tuneproof
            sets the argument itself.
    """
    import torch

    from stages.train.trainers.sharding import SYNC_EACH_BATCH

    train = method.config.train
    evaluates = given.get("eval_strategy", "no")
    dtype = get_dtype(method.config.model.dtype)
    _check(train, given)
    if dtype == torch.float16 and not torch.cuda.is_available():
        raise UserError(
            "model.dtype=float16: training in float16 needs a GPU, and this machine has none. Set "
            "model.dtype=auto."
        )
    ours: dict[str, Any] = {
        "output_dir": folder,
        "seed": method.seed,
        "report_to": "none",
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
        # Trained weights are float32. Matrix products run in the type of the model. In float16 the
        # trainer scales the loss, because small gradients would be 0.
        "bf16": dtype == torch.bfloat16 and not given.get("fp16"),
        "fp16": dtype == torch.float16 and not given.get("bf16"),
        # No parameter is unused, and searching for unused ones takes time.
        "ddp_find_unused_parameters": False,
        "save_strategy": evaluates,
        "save_total_limit": KEPT,
        "load_best_model_at_end": evaluates != "no",
        "metric_for_best_model": f"eval_{train.best.metric}",
        "greater_is_better": not lower_is_better,
        **(
            {"save_steps": given["eval_steps"]}
            if evaluates == "steps" and "eval_steps" in given
            else {}
        ),
        **({"accelerator_config": SYNC_EACH_BATCH} if is_sharded() else {}),
        **method.fixed_arguments,
    }
    taken = (set(ours) - DEFAULTS) & set(given)
    if taken:
        raise UserError(f"train.args.{min(taken)}: Tuneproof sets this argument; remove it")
    # These optimizers update weights during the backward pass. The micro-batches of one batch would
    # then be separate steps.
    optim = str(given.get("optim", ""))
    if train.method == "sft" and (optim.endswith("_layerwise") or optim in ("lomo", "adalomo")):
        raise UserError(
            f"train.args.optim={optim} updates weights during the backward pass, but method sft "
            "does several of them in a step; choose an optimizer without _layerwise or lomo"
        )
    # `compile_layers` compiles the model.
    passed = {key: value for key, value in given.items() if key != "torch_compile"}
    try:
        return method.arguments(**{**ours, **passed})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"train.args: {_name(method.arguments)} rejects these arguments: {error}"
        ) from None


def _check(train: TrainConfig, given: dict[str, Any]) -> None:
    """Refuse arguments that the libraries accept and that would have no effect here."""
    order = given.get("train_sampling_strategy", "random")
    known = ORDERS[:2] if train.method in ON_POLICY else ORDERS
    if order not in known:
        raise UserError(
            f"train.args.train_sampling_strategy={order}: method {train.method} supports "
            f"{', '.join(known)}"
        )


def _name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def choose_attention(train: TrainConfig, model: Any, longest: int, dtype: str) -> str:
    """Return the attention implementation for training and resolve `auto`.

    On a GPU `auto` means `varlen` for method `sft` if the layers are not compiled and the kernel
    suits the GPU, the precision and the model (`stages.train.trainers.varlen_attention`). Otherwise
    on a GPU it means the model's own choice. On a CPU it means `per_row` for method `sft` if
    the layers are not compiled and the model can pack rows (`stages.train.trainers.packing`).
    Otherwise on a CPU it means `eager` if no row has more than `EAGER_TOKENS` tokens, or else the
    model's own choice.

    On two cores the default model trained on the default rows (69 tokens on average) at
    720 tokens/s with `eager` and at 590 tokens/s with `sdpa`. The backward pass of `sdpa` is slow
    for short rows. The memory of `eager` grows with the square of the row length.

    Args:
        train: The section of the training.
        model: The model without an adapter.
        longest: The tokens of the longest row.
        dtype: The precision of the matrix products, as `model.dtype` names it.

    Raises:
        UserError: If `train.attention` is `per_row` or `varlen` and this model cannot be trained
            with it here.
    """
    from stages.train.trainers.packing import can_pack
    from stages.train.trainers.row_attention import PER_ROW
    from stages.train.trainers.varlen_attention import VARLEN, can_use_varlen

    sft = train.method == "sft"
    compiled = train.args.get("torch_compile")
    cpu = get_device() == "cpu"  # a sharded model is not on its GPU yet
    packs = sft and cpu and not compiled and can_pack(model)
    precision = get_dtype("float32" if train.args.get("bf16") is False else dtype)
    varies = sft and can_pack(model, windows=True) and can_use_varlen(model, precision)
    if train.attention == PER_ROW and not packs:
        raise UserError(
            f"train.attention={PER_ROW} is only for train.method=sft on a CPU, with "
            "layers that are not compiled and a model whose tokens attend to all tokens before "
            "them; set train.attention=auto"
        )
    if train.attention == VARLEN and not varies:
        raise UserError(
            f"train.attention={VARLEN} is only for train.method=sft on an NVIDIA GPU of compute "
            "capability 8.0 or later (Ampere), in bfloat16 or float16, with a model whose tokens "
            "attend to the tokens before them without attention dropout, soft caps and sinks; "
            "set train.attention=auto"
        )
    if train.attention != "auto":
        return train.attention
    if varies and not compiled:
        return VARLEN
    if packs:
        return PER_ROW
    return "eager" if cpu and longest <= EAGER_TOKENS else model.config._attn_implementation


def compile_layers(model: Any) -> None:
    """Compile each layer of the model separately, in place, for rows of any length.

    All layers share the same code, so one compilation serves all of them (PyTorch calls this
    "regional compilation"). The names of the weights do not change.
    """
    lists = [module for module in model.modules() if type(module).__name__ == "ModuleList"]
    for layer in max(lists, key=len, default=[]):
        layer.compile(dynamic=True)
