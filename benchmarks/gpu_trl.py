"""TRL's own trainer on the rows of `benchmarks.gpu_rates`.

Where flash-attn is installed, packed and padding-free rows use it, as TRL recommends. Otherwise
they use PyTorch's variable-length attention, as the stage does, so that TRL has the same kernel.
"""

from importlib.util import find_spec
from typing import Any

from benchmarks.gpu_cases import Case
from benchmarks.gpu_clock import Clock
from benchmarks.gpu_models import get_adapter, get_tokenizer, load
from benchmarks.gpu_rates import make_arguments
from benchmarks.gpu_shapes import Shape

PASSES = 16  # into which a padded step is divided, because TRL pads each batch to its longest row


def make_trl(case: Case, shape: Shape, rows: list[dict[str, Any]], batch: int, folder: str) -> Any:
    """Make TRL's `SFTTrainer` for padded, packed or padding-free rows."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class Timed(Clock, SFTTrainer):
        pass

    longest = max(row["length"] for row in rows)
    total = sum(row["length"] for row in rows[:batch])
    passes = max(1, min(2 if case.toy else PASSES, batch))
    given: dict[str, Any] = {
        "padded": {"per_device_train_batch_size": max(1, batch // passes)},
        "padding_free": {
            "per_device_train_batch_size": max(1, batch // passes),
            "padding_free": True,
        },
        "packed": {
            "per_device_train_batch_size": max(1, total // longest // passes),
            "packing": True,
        },
    }[str(case.rival)]
    limit = longest if case.rival == "packed" else None
    attention = "flash_attention_2" if find_spec("flash_attn") else "varlen"
    return Timed(
        model=load(case, shape, case.attention if case.rival == "padded" else attention),
        args=SFTConfig(
            **make_arguments(case, folder, gradient_accumulation_steps=passes, **given),
            max_length=limit,
        ),
        train_dataset=Dataset.from_list(
            [{key: row[key] for key in ("input_ids", "labels")} for row in rows]
        ),
        processing_class=get_tokenizer(),
        peft_config=get_adapter(shape),
    )
