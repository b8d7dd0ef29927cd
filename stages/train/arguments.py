"""Arguments of TRL and peft from the configuration, and what `auto` means."""

from typing import TYPE_CHECKING, Any

from stages.core.config import TrainConfig
from stages.core.errors import UserError
from stages.core.models import get_dtype

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl import SFTConfig

EAGER_TOKENS = 512  # see choose_attention
OURS = {"output_dir", "seed", "report_to", "save_strategy", "dataset_kwargs", "remove_unused_columns", "use_cpu"}


def get_arguments(train: TrainConfig, dtype: str, seed: int, folder: str) -> "SFTConfig":
    """TRL's arguments from `train.args`.

    Raises:
        UserError: TRL does not know an argument, or refuses its value.
    """
    import torch
    from trl import SFTConfig

    taken = OURS & set(train.args)
    if taken:
        raise UserError(f"train.args.{min(taken)}: this one is Tuneproof's to set; remove it")
    ours: dict[str, Any] = {"output_dir": folder, "seed": seed, "report_to": "none", "save_strategy": "no"}
    ours |= {"dataset_kwargs": {"skip_prepare_dataset": True}, "remove_unused_columns": False}
    # Trained weights are float32, for an update of 2e-5 is lost in bfloat16; products run in bfloat16 where it is fast.
    ours |= {"use_cpu": not torch.cuda.is_available(), "bf16": get_dtype(dtype) == torch.bfloat16}
    try:
        return SFTConfig(**{**ours, **train.args})
    except (TypeError, ValueError) as error:
        raise UserError(f"train.args: trl.SFTConfig does not take them: {error}") from None


def get_adapter(train: TrainConfig) -> "LoraConfig | None":
    """peft's arguments from `train.adapter`, or None where every weight is trained.

    Raises:
        UserError: peft does not know an argument, or refuses its value.
    """
    if train.adapter is None:
        return None
    from peft import LoraConfig

    try:
        return LoraConfig(task_type="CAUSAL_LM", **train.adapter)
    except (TypeError, ValueError) as error:
        raise UserError(f"train.adapter: peft.LoraConfig does not take it: {error}") from None


def choose_attention(name: str, model: Any, longest: int) -> str:
    """`auto` is `eager` on a CPU for rows of at most `EAGER_TOKENS` tokens, else the model's own choice.

    Two cores trained the default model on the default rows (69 tokens on average) at 720 tokens/s with `eager`, at 590
    with `sdpa`, whose backward pass is slow for short rows; for long ones the memory of `eager` grows with the square.
    """
    if name != "auto":
        return name
    return "eager" if model.device.type == "cpu" and longest <= EAGER_TOKENS else model.config._attn_implementation
