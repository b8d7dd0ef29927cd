"""The bodies of requests, in the fields of OpenAI's API, and what this server cannot give."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from stages.core.config.base import Section
from stages.core.data.records import Message

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_options": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields of OpenAI's API that this server cannot give, each with the values that ask for nothing."""
IGNORED = {
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
}
"""Fields that change no answer."""
CHOICES = 16
STOPS = 4


def check_text(text: str) -> str:
    """Refuse half of a surrogate pair, which JSON can spell and no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("invalid_value", "half of a surrogate pair") from None
    return text


def join_parts(content: Any) -> Any:
    """Join the text parts of a message's content. Other content is returned unchanged."""
    if not isinstance(content, list):
        return content
    for part in content:
        known = isinstance(part, dict) and part.get("type") == "text"
        if not (known and isinstance(part.get("text"), str)):
            raise PydanticCustomError("invalid_value", "only parts of the type 'text' can be read")
    return "".join(part["text"] for part in content)


def as_list(value: Any) -> Any:
    """Put a single text into a list."""
    return [value] if isinstance(value, str) else value


def without_nulls(values: Any) -> Any:
    """Drop the fields that are null, which clients send for the default."""
    if not isinstance(values, dict):
        return values
    return {key: value for key, value in values.items() if value is not None}


Text = Annotated[str, AfterValidator(check_text)]
# Only the first problem is reported, and to write down all of a long list takes seconds and memory.
Texts = Annotated[
    list[Text], FailFast(), BeforeValidator(as_list), Field(min_length=1, max_length=2048)
]
Stops = Annotated[
    list[Annotated[str, Field(min_length=1), AfterValidator(check_text)]],
    FailFast(),
    BeforeValidator(as_list),
    Field(max_length=STOPS),
]


class ChatMessage(Section):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text, BeforeValidator(join_parts)]
    name: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_text_alone(cls, values: Any) -> Any:
        kept = without_nulls(values)
        for key in ("tool_calls", "function_call", "tool_call_id", "audio", "refusal"):
            if isinstance(kept, dict) and key in kept:
                raise _unsupported(f"messages.{key}", "it has text messages alone")
        return kept


class StreamOptions(Section):
    """The options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Section):
    """The body of `/v1/chat/completions`."""

    model: Text
    messages: Annotated[list[ChatMessage], FailFast(), Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """OpenAI's former name of `max_completion_tokens`."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """How many tokens the answer may have. The default is the evaluated limit."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0
    """The default is greedy decoding, as the model was evaluated. OpenAI's is 1."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    n: Annotated[int, Field(ge=1, le=CHOICES)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stops = []  # noqa: RUF012  (pydantic copies it)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _asks_for_what_there_is(cls, values: Any) -> Any:
        kept = without_nulls(values)
        if not isinstance(kept, dict):
            return kept
        if "top_logprobs" in kept and not kept.get("logprobs"):
            raise _invalid("top_logprobs", "it needs 'logprobs'")
        if "stream_options" in kept and not kept.get("stream"):
            raise _invalid("stream_options", "it needs 'stream'")
        for key, harmless in NEUTRAL.items():
            if key in kept and kept[key] not in harmless:
                raise _unsupported(key, "this server does not offer it")
        return {key: kept[key] for key in kept if key not in NEUTRAL and key not in IGNORED}

    def get_messages(self) -> list[Message]:
        """Return the messages as records have them. OpenAI's newer models say developer to system."""
        dumped = [message.model_dump(exclude_none=True) for message in self.messages]
        return [m | {"role": "system"} if m["role"] == "developer" else m for m in dumped]


class ClassifyRequest(Section):
    """The body of `/v1/classify`."""

    model: Text
    input: Texts
    """A text, or a list of texts."""

    @model_validator(mode="before")
    @classmethod
    def _drops_nulls(cls, values: Any) -> Any:
        return without_nulls(values)


def _invalid(param: str, why: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_value", why, {"param": param})


def _unsupported(param: str, why: str) -> PydanticCustomError:
    return PydanticCustomError("unsupported_parameter", why, {"param": param})
