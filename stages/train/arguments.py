"""Arguments of TRL, transformers and peft from the configuration, and what `auto` means for the attention."""

from typing import TYPE_CHECKING, Any

from stages.core.config.train import TrainConfig
from stages.core.errors import UserError
from stages.core.models.loading import get_dtype

if TYPE_CHECKING:
    from peft import LoraConfig

    from stages.train.methods.base import Method

EAGER_TOKENS = 512  # see choose_attention
KEPT = 3  # checkpoints: the last, the best, and the one before, in case the last is cut off


def get_arguments(
    method: "Method", given: dict[str, Any], folder: str, lower_is_better: bool
) -> Any:
    """The arguments of a method's trainer.

    Args:
        method: has their class.
        given: `train.args` with numbers in the place of `auto`.
        folder: for checkpoints.
        lower_is_better: of the metric of `train.best`.

    Raises:
        UserError: the class does not know an argument or refuses its value, or Tuneproof sets it itself.
    """
    import torch

    train = method.config.train
    evaluates = given.get("eval_strategy", "no")
    ours: dict[str, Any] = {
        "output_dir": folder,
        "seed": method.seed,
        "report_to": "none",
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
        # Trained weights are float32; products run in bfloat16 where it is fast.
        "bf16": get_dtype(method.config.model.dtype) == torch.bfloat16,
        "ddp_find_unused_parameters": False,  # there are none, and to look for them takes time
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
        **method.ours,
    }
    taken = (set(ours) - {"bf16", "ddp_find_unused_parameters"}) & set(given)
    if taken:
        raise UserError(f"train.args.{min(taken)}: this one is Tuneproof's to set; remove it")
    passed = {
        key: value for key, value in given.items() if key != "torch_compile"
    }  # `compile_layers` does it
    try:
        return method.arguments(**{**ours, **passed})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"train.args: {_name(method.arguments)} does not take them: {error}"
        ) from None


def _name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def get_adapter(train: TrainConfig, task_type: str) -> "LoraConfig | None":
    """peft's arguments from `train.adapter`, or None where every weight is trained.

    Raises:
        UserError: peft does not know an argument, or refuses its value.
    """
    if train.adapter is None:
        return None
    from peft import LoraConfig

    try:
        return LoraConfig(task_type=task_type, **train.adapter)
    except (TypeError, ValueError) as error:
        raise UserError(f"train.adapter: peft.LoraConfig does not take it: {error}") from None


def choose_attention(train: TrainConfig, model: Any, longest: int) -> str:
    """What `auto` is: on a CPU `per_row` for answers (`stages.train.trainers.packing`), unless layers are compiled, and
    for other methods `eager` where rows have at most `EAGER_TOKENS` tokens; else the model's own choice.

    Two cores trained the default model on the default rows (69 tokens on average) at 720 tokens/s with `eager`, at 590
    with `sdpa`, whose backward pass is slow for short rows; for long ones the memory of `eager` grows with the square.
    """
    from stages.train.trainers.packing import PER_ROW, can_pack

    compiled = train.args.get("torch_compile")
    packs = (
        train.method == "sft" and model.device.type == "cpu" and not compiled and can_pack(model)
    )
    if train.attention == PER_ROW and not packs:
        raise UserError(
            f"train.attention={PER_ROW} is for train.method=sft, a CPU, layers that are not compiled and models whose "
            "tokens see all before them; take auto"
        )
    if train.attention != "auto":
        return train.attention
    if model.device.type != "cpu":
        return model.config._attn_implementation
    if packs:
        return PER_ROW
    return "eager" if longest <= EAGER_TOKENS else model.config._attn_implementation


def compile_layers(model: Any) -> None:
    """Compile each layer of the model for itself, in place, for rows of any length.

    All layers have the same code, so that one compilation serves all (PyTorch's "regional compilation"); names of
    weights stay as they are.
    """
    lists = [module for module in model.modules() if type(module).__name__ == "ModuleList"]
    for layer in max(lists, key=len, default=[]):
        layer.compile(dynamic=True)
