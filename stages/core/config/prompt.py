"""The sections of the configuration for prompts."""

from typing import Annotated, Literal

from pydantic import Field

from stages.core.config.base import Count, Name, Section
from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource


class WordRetriever(Section):
    """Retrieval of similar rows by BM25, which compares words."""

    kind: Literal["bm25"]


class EmbeddingRetriever(Section):
    """Retrieval of similar rows by a sentence-embedding model.

    An embedding is the mean of the last layer over the tokens. Embeddings are compared by their
    cosine similarity.
    """

    kind: Literal["embeddings"]
    source: Annotated[WheelSource | HubSource, Field(discriminator="kind")]
    max_length: Count
    """How many tokens of a question the model reads."""


class Endpoint(Section):
    """A model behind an OpenAI-compatible API."""

    base_url: Annotated[str, Field(pattern="^https?://")]
    """The address of the API, up to and including `/v1`."""
    model: Name
    """The name that the endpoint has for the model."""
    api_key_env: Name | None
    """The environment variable that holds the API key, which no file contains. Null if the endpoint
    needs no key."""
    max_concurrency: Count
    """How many requests are sent at the same time."""
    timeout: Count
    """The seconds to wait for a reply."""
    max_retries: Annotated[int, Field(ge=0)]
    """How often to repeat a request that the endpoint could not answer."""


class SearchConfig(Section):
    """How much a prompted arm tries on validation rows before it answers the test rows."""

    budget: Literal["cheap", "training"] | Count
    """How many tokens the model may process in the search of each arm. `cheap` is twice the tokens
    that it takes to ask every instruction with every number of examples in `prompt.shots`.
    `training` is as much work as training takes."""
    selection_rows: Count | None
    """How many validation rows the search uses at most. Null uses all."""
    draws: Count
    """How many sets of examples to try, each drawn by its own seed."""
    reversed: bool
    """Whether to try the examples in reversed order too."""
    balanced: bool
    """Whether every second draw takes examples with as many different targets as possible."""
    fill_context: bool
    """Whether to try more examples than `prompt.shots`: twice, four times, … as many, up to what
    the context holds."""


class PromptConfig(Section):
    """The prompts of the arms."""

    system_prompt: str | None
    """The system message of the prompted arms. Null keeps the one of the row."""
    tuned_system_prompt: str | None
    """The system message of the tuned model, in training and afterwards. Null keeps the one of the
    row."""
    system_prompt_variants: list[str]
    """Other system messages that the prompted arms try on validation rows."""
    shots: Annotated[list[Count], Field(min_length=1)]
    """The numbers of examples from the training split that the few-shot and retrieval arms try."""
    search: SearchConfig
    max_new_tokens: Count
    """How many tokens an answer may have."""
    retriever: Annotated[WordRetriever | EmbeddingRetriever, Field(discriminator="kind")]
    """How the arm `retrieval` finds its examples."""
    remote: Endpoint | None
    """Another model that could be prompted instead. It becomes the arm `remote`."""
