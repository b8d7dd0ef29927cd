"""The dimensions of a model, read from its configuration without torch.

The estimates of memory and time and the learning rate depend on it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.config.model import ModelConfig, RandomSource
from stages.core.models.base_models import ModelFiles
from stages.core.models.model_folder import read_object

# transformers' names for the number of experts in a layer.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True, slots=True)
class ModelDimensions:
    """The dimensions of a decoder with gated MLPs, as most language models are."""

    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    key_value: int
    """The width of the keys, and also of the values."""
    tied: bool
    mixture: bool = False
    """Whether the layers have several MLPs, of which the numbers below count only one."""

    @property
    def layer_parameters(self) -> int:
        """The number of weights in the linear layers of one decoder layer."""
        return (
            2 * self.hidden * (self.hidden + self.key_value) + 3 * self.hidden * self.intermediate
        )

    @property
    def parameters(self) -> int:
        """The number of all weights, without those of the norms."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + embeddings

    def adapter_parameters(self, rank: int) -> int:
        """Count the weights of adapters of a given rank on every linear layer."""
        h = self.hidden
        kv = self.key_value
        i = self.intermediate
        return self.layers * rank * (2 * (h + h) + 2 * (h + kv) + 3 * (h + i))


def get_model_dimensions(model: ModelConfig, base: ModelFiles) -> ModelDimensions | None:
    """Return the dimensions of a model, or None if its configuration does not state it."""
    source = model.source
    if isinstance(source, RandomSource):
        width = source.hidden_size
        return ModelDimensions(
            width, source.sizes["intermediate_size"], source.layers, 258, width, tied=False
        )
    config = _read_config(base)
    try:
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        return ModelDimensions(
            config["hidden_size"],
            config["intermediate_size"],
            config["num_hidden_layers"],
            config["vocab_size"],
            head * (config.get("num_key_value_heads") or heads),
            config.get("tie_word_embeddings", True),
            any((config.get(name) or 0) > 1 for name in EXPERTS),
        )
    except (KeyError, TypeError):
        return None


def _read_config(base: ModelFiles) -> dict[str, Any]:
    path = Path(base.path) / "config.json"
    if path.exists():
        return read_object(path)
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(base.path, **base.arguments).to_dict()
