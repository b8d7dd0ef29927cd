"""The settings of the server, as words `key=value` on the command line."""

from typing import Annotated, Literal

from pydantic import Field

from stages.core.config.base import Count, Name, Section


class ServeConfig(Section):
    """What is served, to whom, and within which limits. These are the only defaults."""

    model: Name
    """The registered model: `<name>@<alias>`, which is followed when it moves, or
    `<name>/<version>`."""
    host: Name = "127.0.0.1"
    """The address to listen on. Another one than this machine's own needs keys in
    TUNEPROOF_API_KEYS."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port. 0 takes a free one."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """What computes the answers. `auto` is vLLM if there is a GPU, and transformers otherwise."""
    dtype: Literal["saved", "float32"] = "saved"
    """The type of the weights: the one in which the model was evaluated and saved, or float32."""
    system_prompt: Literal["evaluated", "none"] = "evaluated"
    """What a chat without a system message gets: the evaluated system prompt, or none."""
    max_length: Annotated[int, Field(ge=16)] | None = None
    """How many tokens a prompt and its answer may have together. Without it, the
    evaluated limit."""
    max_running: Count = 16
    """How many answers are computed at the same time."""
    max_waiting: Annotated[int, Field(ge=0)] = 64
    """How many more may wait. Further requests are refused with the status 429."""
    max_body: Count = 1_048_576
    """How many bytes the body of a request may have."""
    cache_tokens: Count = 8192
    """How many tokens the cache of keys and values holds for all answers together, with
    transformers."""
    poll_seconds: Annotated[float, Field(gt=0)] = 5.0
    """How often to look whether the alias has moved."""
    drain_seconds: Count = 30
    """How long answers that are being written may go on after SIGTERM."""
    log_requests: Name | None = None
    """A file to which answered chats are appended as records, without secrets. Without
    it, none is logged."""
    vllm_args: str = ""
    """More arguments of `vllm serve`, separated by spaces."""

    @property
    def reference(self) -> str:
        """The name of the model without MLflow's prefix."""
        return self.model.removeprefix("models:/")
