"""The sections of the configuration that say how the arms are asked."""

from typing import Annotated, Literal

from pydantic import Field

from stages.core.config.base import Count, Name, Section
from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource


class WordRetriever(Section):
    """Finds similar rows by BM25, which compares words."""

    kind: Literal["bm25"]


class EmbeddingRetriever(Section):
    """Finds similar rows by a sentence-embedding model: mean of the last layer over the tokens, cosine similarity."""

    kind: Literal["embeddings"]
    source: Annotated[WheelSource | HubSource, Field(discriminator="kind")]
    max_length: Count
    """How many tokens of a question are read."""


class Endpoint(Section):
    """A model behind an OpenAI-compatible API."""

    url: Annotated[str, Field(pattern="^https?://")]
    """The address up to and including `/v1`."""
    model: Name
    """The name of the model at the endpoint."""
    key_variable: Name | None
    """The environment variable that holds the key, which itself stands in no file; null where none is asked for."""
    parallel: Count
    """How many requests are sent at a time."""
    timeout: Count
    """How many seconds to wait for a reply."""
    retries: Annotated[int, Field(ge=0)]
    """How often a request is sent again that the endpoint could not answer."""


class SearchConfig(Section):
    """How much a prompted arm tries on validation rows before it answers the test split."""

    budget: Literal["cheap", "training"] | Count
    """Tokens that the model may process for each arm. `cheap` is twice what it takes to ask every instruction with
    every number of examples in `prompt.shots`; `training` is as much work as training is."""
    selection_rows: Count | None
    """How many validation rows are used at most; null uses all."""
    draws: Count
    """How many sets of examples are tried, each drawn by a seed of its own."""
    reversed: bool
    """Whether the examples are also shown in the reversed order."""
    balanced: bool
    """Whether every second draw takes as many different targets as it can."""
    fill_context: bool
    """Whether more examples than `prompt.shots` are tried: twice, four times, … as many, up to what fits."""


class PromptConfig(Section):
    """How the arms are asked."""

    instruction: str | None
    """The system message of the prompted arms in place of the row's own; null keeps that of the row."""
    short_instruction: str | None
    """The system message of the tuned model, in training and afterwards."""
    variants: list[str]
    """Other instructions that the prompted arms try on the validation split."""
    shots: Annotated[list[Count], Field(min_length=1)]
    """How many examples the few-shot and retrieval arms try, from the training split."""
    search: SearchConfig
    max_new_tokens: Count
    retriever: Annotated[WordRetriever | EmbeddingRetriever, Field(discriminator="kind")]
    """How the retrieval arm finds its examples."""
    remote: Endpoint | None
    """Another model that could be prompted instead: it becomes the arm `remote`."""
