"""Load the models of `benchmarks.gpu_check` as the stage loads them, with random weights."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import Case
from benchmarks.gpu_shapes import Shape, make_model

QLORA = Path(__file__).parents[1] / "conf/train/qlora.yaml"


def load(case: Case, shape: Shape, attention: str | None = None) -> Any:
    """Make the model as the stage trains it.

    Weights that are trained without an adapter are float32, except for a lean shape. All others
    have the precision of the products, or 4 bits.

    Args:
        case: The case, whose attention and precision the model gets.
        shape: The shape of the model.
        attention: An attention instead of that of the case.
    """
    import torch

    from stages.core.models.loading import get_device
    from stages.train.trainers import row_attention, varlen_attention  # noqa: F401  (they register)

    half = torch.float16 if case.float16 else torch.bfloat16
    dtype = half if shape.rank or shape.lean else torch.float32
    model = make_model(shape, dtype, get_device())
    if shape.quantized:
        model = quantize(model)
    model.set_attn_implementation(attention or case.attention)
    return model


def quantize(model: Any) -> Any:
    """Save a model and load it in 4 bits, as `train=qlora` does."""
    from omegaconf import OmegaConf

    from stages.core.models.base_models import ModelFiles
    from stages.core.models.loading import get_model

    quantization = dict(OmegaConf.load(QLORA).quantization)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        del model
        return get_model(ModelFiles(folder, None, None), "bfloat16", quantization)


def get_adapter(shape: Shape) -> Any:
    """Return the adapters of a shape, on every linear layer, or None."""
    from peft import LoraConfig

    if shape.rank is None:
        return None
    return LoraConfig(
        task_type="CAUSAL_LM", r=shape.rank, lora_alpha=32, target_modules="all-linear"
    )


def get_base() -> Any:
    """Return the files of a tiny random model."""
    from stages.core.config.model import RandomSource
    from stages.core.config.schema import read_params
    from stages.core.models.base_models import get_base_model

    source = RandomSource(kind="random", hidden_size=32, layers=2, heads=2)
    config = read_params().model.model_copy(update={"name": "tiny", "source": source})
    return get_base_model(config, 42)


def get_tokenizer() -> Any:
    """Return a tokenizer, which the trainers need for its padding token alone."""
    from stages.core.models import loading

    return loading.get_tokenizer(get_base())
