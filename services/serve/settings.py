"""The settings of the server, as words `key=value` on the command line."""

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError
from yaml import YAMLError

from stages.core.config.base import Count, Name, Section
from stages.core.config.schema import list_keys
from stages.core.errors import UserError, hide_secrets


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
    """How many tokens a prompt and its answer may have together. Null is the evaluated limit."""
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
    """A file to which answered chats are appended as records, without secrets. Null logs none."""
    vllm_args: str = ""
    """More arguments of `vllm serve`, separated by spaces."""

    @property
    def reference(self) -> str:
        """The name of the model without MLflow's prefix."""
        return self.model.removeprefix("models:/")


def read_words(words: Sequence[str]) -> ServeConfig:
    """Read the settings from words `key=value`.

    Raises:
        UserError: A word has another form, a key is unknown or missing, or a value is not allowed.
            The message names all of them.
    """
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise UserError(
            f"{wrong[0]!r} is not of the form key=value, such as model=tuneproof-food@champion. "
            "`python -m services.serve --help` lists the keys"
        )
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(list(words)), resolve=True)
        return ServeConfig.model_validate(values)
    except (OmegaConfBaseException, YAMLError) as error:
        said = hide_secrets(str(error)).split("\n")[0]
        raise UserError(f"the words cannot be read as key=value: {said}") from None
    except ValidationError as error:
        problems = [_describe(dict(problem)) for problem in error.errors(include_url=False)]
        raise UserError("\n  ".join(["the settings of the server are wrong:", *problems])) from None


def describe_keys() -> str:
    """List the keys with their defaults and their meanings, for `--help`."""
    fields = ServeConfig.model_fields
    lines = []
    for key, text in list_keys(ServeConfig):
        default = "required" if fields[key].is_required() else repr(fields[key].default)
        lines.append(f"{key} ({default.replace('None', 'null')}): {text}")
    return "\n".join(lines)


def _describe(problem: dict[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, ServeConfig.model_fields, n=1)
        return f"{key}: unknown key" + (f"; did you mean {close[0]}?" if close else "")
    if problem["type"] == "missing":
        return f"{key}: this key is missing; write {key}=<name>@champion"
    said = problem["msg"].removeprefix("Input ")
    return f"{key}: {said}, got {hide_secrets(repr(problem['input']))}"
