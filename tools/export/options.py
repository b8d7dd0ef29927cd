"""What can be chosen for an export."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.core.config.base import Count, Name, Section

Quantization = Literal["f32", "f16", "bf16", "q8_0"]
FOLDER = Path("exports")


class ExportOptions(Section):
    """The settings of `python -m tools.export`."""

    model: Name
    """The registered version: <name>@<alias> or <name>/<version>. An alias or a number alone is of the
    model in params.yaml."""
    format: Literal["merged", "adapter", "gguf"]
    """merged is a folder for transformers and vLLM, adapter is a folder for PEFT, and gguf is a file
    for llama.cpp and Ollama."""
    quantization: Quantization | None = None
    """The type of the weights in a GGUF file: f32, f16, bf16 or q8_0. Without it they keep their own
    type."""
    to: Name | None = None
    """The folder of the export. Without it: exports/<name>-<version>-<format>."""
    max_drift: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """The largest loss of the primary metric, by its lower bound, that a quantized export may have."""
    sample: Count = 16
    """The number of test rows whose answers by llama.cpp are compared with those in float32."""
    push: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    """The repository on the Hugging Face Hub to upload to: owner/name. The token is read from
    HF_TOKEN."""
    private: bool = True
    """Whether the repository on the hub is private."""

    @model_validator(mode="after")
    def _only_gguf_is_quantized(self) -> "ExportOptions":
        if self.quantization and self.format != "gguf":
            raise ValueError(
                f"quantization={self.quantization} is for format=gguf, but format={self.format}. "
                "Remove it, or choose format=gguf"
            )
        return self

    def get_folder(self, name: str, number: str) -> Path:
        """Return the folder of the export of a version."""
        if self.to:
            folder = Path(self.to).expanduser()
            return folder.resolve() if folder.is_symlink() else folder
        kind = "-".join(part for part in (self.format, self.quantization) if part)
        return FOLDER / f"{name}-{number}-{kind}"
