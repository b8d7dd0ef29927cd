"""The sections of the configuration for the base model and for generation."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator

from stages.core.config.base import Count, Name, Section
from stages.core.config.data import WheelMember, WheelSource

PASSED = {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}
"""What transformers or Tuneproof passes to a chat template. The names of special tokens, such as
`bos_token`, belong to it too."""


class WheelPartsSource(Section):
    """A GGUF file in parts, each in a wheel of its own.

    An index limits the size of a wheel, and the file may be larger.
    """

    kind: Literal["wheel-parts"]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The SHA-256 of the whole file in hexadecimal digits. It shows that no part is missing and
    that they are in order."""
    parts: Annotated[list[WheelMember], Field(min_length=2)]
    """The parts of the file, in order."""

    @field_validator("parts")
    @classmethod
    def _parts_are_files(cls, parts: list[WheelMember]) -> list[WheelMember]:
        for part in parts:
            if part.member.endswith("/"):
                raise ValueError(f"{part.member}: this is a folder; give a file of the wheel")
        return parts


class HubSource(Section):
    """A model on the Hugging Face hub, or a local folder in its format."""

    kind: Literal["hub"]
    id: Name
    """The model on the hub (owner/name), or the path of a folder."""
    revision: str | None
    """The commit, tag or branch to read. Null reads the default branch. The commit that was read is
    recorded."""
    trust_remote_code: bool
    """Whether to run the Python code that comes with the model."""


class RandomSource(Section):
    """A model with random weights, drawn by the seed."""

    kind: Literal["random"]
    hidden_size: Count
    layers: Count
    heads: Count

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the model under the names that configurations of transformers use."""
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": 2 * self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }


class ModelConfig(Section):
    """The base model and its limits."""

    name: Name
    source: Annotated[
        WheelSource | WheelPartsSource | HubSource | RandomSource, Field(discriminator="kind")
    ]
    dtype: Literal["auto", "bfloat16", "float16", "float32"]
    """The type of the weights. `auto` is bfloat16 if the hardware supports it. Otherwise it is
    float16 on a GPU and float32 on a processor."""
    max_length: Annotated[int, Field(ge=16)]
    """How many tokens a prompt and its answer may have together."""
    max_batch_tokens: Annotated[int, Field(ge=64)]
    """How many tokens a batch of prompts and answers may have in generation, padding included."""
    chat_template: Name | None
    """The file of a chat template (Jinja) that replaces the model's own. Null keeps the model's
    own."""
    chat_template_kwargs: dict[str, JsonValue]
    """Arguments of the chat template, such as `enable_thinking: false`. They hold for every prompt
    of every arm and are saved in the template of the tuned model."""
    dvc_dependency: Name
    """What the stages depend on in DVC: the file of the chat template, if there is one."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _arguments_can_be_given(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in given:
            if name in PASSED or name.endswith("_token"):
                raise ValueError(f"{name}: Tuneproof passes this to the template itself; remove it")
        return given


class TransformersEngineConfig(Section):
    """Generation with transformers in the process of the stage."""

    kind: Literal["transformers"]


class VllmEngineConfig(Section):
    """Generation with a vLLM server in its own environment, started once for each model."""

    kind: Literal["vllm"]
    command: Annotated[list[Name], Field(min_length=1)]
    """The command that starts the server, such as `[.venv-vllm/bin/vllm, serve]`."""
    args: list[str]
    """More arguments of the command."""
    startup_timeout: Count
    """How many seconds to wait for the server to load a model."""
    max_concurrency: Count
    """How many requests are sent at the same time."""
