"""What a configuration may hold: types and ranges. The values, defaults included, stand in `conf/`."""

import difflib
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, model_validator

from stages.core.data_config import ChecksConfig, DataConfig, WheelSource
from stages.core.errors import UserError
from stages.core.hydra_plugins import conf_digest as _resolver  # noqa: F401  (a door that composes needs `${conf_digest:}`)
from stages.core.records import Kind
from stages.core.section import Count, Name, Section


class HubSource(Section):
    """A model of the Hugging Face hub, or a local folder in its format."""

    kind: Literal["hub"]
    id: Name
    revision: str | None
    trust_remote_code: bool


class RandomSource(Section):
    """A random model made from the seed."""

    kind: Literal["random"]
    hidden_size: Count
    layers: Count
    heads: Count


class ModelConfig(Section):
    """The base model and the limits under which it runs."""

    name: Name
    source: Annotated[WheelSource | HubSource | RandomSource, Field(discriminator="kind")]
    dtype: Literal["auto", "bfloat16", "float32"]
    max_length: Annotated[int, Field(ge=16)]
    """Tokens of the prompt and the answer together."""
    batch_tokens: Annotated[int, Field(ge=64)]
    """Padded tokens, prompts and answers, in one batch of generation."""


class WordRetriever(Section):
    """BM25."""

    kind: Literal["bm25"]


class EmbeddingRetriever(Section):
    """A sentence-embedding model: mean of the last layer over the tokens, cosine similarity."""

    kind: Literal["embeddings"]
    source: Annotated[WheelSource | HubSource, Field(discriminator="kind")]
    max_length: Count
    """Tokens of a question that count."""


class Endpoint(Section):
    """A model behind an OpenAI-compatible API."""

    url: Annotated[str, Field(pattern="^https?://")]
    """Up to and with `/v1`."""
    model: Name
    """As the endpoint names it."""
    key_variable: Name | None
    """The environment variable that holds the key, which itself stands in no file; null where none is asked for."""
    parallel: Count
    """Requests at a time."""
    timeout: Count
    """Seconds."""
    retries: Annotated[int, Field(ge=0)]
    """Of a request that the endpoint could not answer."""


class PromptConfig(Section):
    """How the arms are asked."""

    instruction: str | None
    """System message of the prompted arms in place of the row's own; null keeps the row's."""
    short_instruction: str | None
    """The same for the tuned model."""
    variants: list[str]
    """Other instructions that the prompted arms try on the validation split."""
    shots: Annotated[list[Count], Field(min_length=1)]
    """How many examples the few-shot and retrieval arms try, from the training split."""
    trial_rows: Count
    """Validation rows on which they try; the choice of each arm then answers the test split."""
    max_new_tokens: Count
    retriever: Annotated[WordRetriever | EmbeddingRetriever, Field(discriminator="kind")]
    """How the retrieval arm finds its examples."""
    remote: Endpoint | None
    """Another model that could be prompted instead: it becomes the arm `remote`."""


class TrainConfig(Section):
    """How the base model is tuned. `adapter` and `args` go to peft and TRL as they are."""

    kinds: Annotated[list[Kind], Field(min_length=1)]
    """Kinds of records that this method learns from."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Of the training rows: a smaller one is a part of every larger one. For the learning curve."""
    adapter: dict[str, Any] | None
    """Arguments of `peft.LoraConfig`; null trains every weight."""
    dry_run: bool
    """Two steps and what all of them would take; nothing is written."""
    micro_batch_tokens: Annotated[int, Field(ge=16)]
    """Padded tokens in one forward and backward pass."""
    attention: Name
    """An attention implementation of transformers, or `auto`."""
    args: dict[str, Any]
    """Arguments of `trl.SFTConfig`."""


class Prices(Section):
    """What compute costs, in `currency`."""

    currency: Name
    machine_hour: Annotated[float, Field(ge=0)]
    """Of this machine; 0 where tokens are paid."""
    input_million: Annotated[float, Field(ge=0)]
    """Of a million tokens of prompts; 0 where hours are paid."""
    output_million: Annotated[float, Field(ge=0)]
    remote_input_million: Annotated[float, Field(ge=0)]
    """The same of the arm `remote`, which costs no hours of this machine."""
    remote_output_million: Annotated[float, Field(ge=0)]
    hosting_month: Annotated[float, Field(ge=0)]
    """What a month of a tuned model costs beyond one of the base model."""
    requests_month: Count


class HarnessConfig(Section):
    """Known suites, asked of base and tuned model by lm-evaluation-harness."""

    tasks: list[Name]
    """Its names of them; none is asked without one."""
    folder: str | None
    """With definitions of tasks of your own."""
    limit: Count | None
    """Items of each task; null asks all."""
    batch_size: Count


class EvaluateConfig(Section):
    """Metrics, statistics and the rule of the verdict."""

    metrics: Annotated[list[Name], Field(min_length=1)]
    """Folders under `stages/evaluate/metrics`."""
    options: dict[str, dict[str, Any]]
    """Options of some of the metrics."""
    primary_metric: Name
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Of every interval, and of the one-sided bounds that the verdict goes by."""
    resamples: Annotated[int, Field(ge=100)]
    interval: Literal["percentile", "BCa"]
    """Kind of the bootstrap intervals."""
    margin: Annotated[float, Field(ge=0, lt=1)]
    """The smallest improvement of the primary metric that is worth having."""
    slices: list[Name]
    """Parts of the test rows to compare too: `length`, `label`, columns of `data.keep`."""
    extra_arms: list[Literal["tuned_long"]]
    """Answered too, for information: `tuned_long` asks the tuned model with the instruction of the prompted arms."""
    forgetting: bool
    """Whether base and tuned model answer the general suite."""
    harness: HarnessConfig
    likelihood: bool
    """Whether each arm also reads the targets, as the metric `perplexity` needs."""
    prices: Prices

    @model_validator(mode="after")
    def _primary_is_measured(self) -> "EvaluateConfig":
        if self.primary_metric not in self.metrics:
            raise ValueError(f"primary_metric {self.primary_metric!r} must be one of metrics {self.metrics}")
        if "perplexity" in self.metrics and not self.likelihood:
            raise ValueError("the metric perplexity needs evaluate.likelihood=true")
        return self


class Gate(Section):
    """What a tuned model must show before it is registered."""

    verdict: Literal["fine-tune", "prompt", "not-enough-evidence"] | None
    minimum: float
    forgotten: Annotated[float, Field(ge=0, le=1)] | None
    """The largest loss on the general suite, as a share of its items; null does not look."""
    champion: Literal["compare", "ignore"]


class RegisterConfig(Section):
    """The registered model's name, its alias and the gate."""

    name: Annotated[str, Field(min_length=1, pattern="^[^/:.%\"']+$")]
    alias: Name
    gate: Gate


class TrackingConfig(Section):
    """Where MLflow's runs go. No stage's output depends on it."""

    enabled: bool
    uri: str | None
    """Null: `MLFLOW_TRACKING_URI`, else SQLite at the root of the repository."""
    experiment: Name
    timeout: Annotated[int, Field(ge=1)]
    """Seconds."""


class TransformersEngine(Section):
    """Answers are generated in this process."""

    kind: Literal["transformers"]


class VllmEngine(Section):
    """Answers are generated by a vLLM server that is started for each model, out of an environment of its own."""

    kind: Literal["vllm"]
    command: Annotated[list[Name], Field(min_length=1)]
    """What starts it, such as `[.venv-vllm/bin/vllm, serve]`."""
    args: list[str]
    """More arguments of the command."""
    start_seconds: Count
    """How long it may take to load a model."""
    parallel: Count
    """Requests at a time."""


class EnergyConfig(Section):
    """Electricity by CodeCarbon."""

    measure: bool
    country: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    """ISO 3166 code of three letters: its mix of electricity makes the carbon dioxide."""


class Config(Section):
    """One resolved configuration: the content of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    conf_digest: str
    data: DataConfig
    checks: ChecksConfig
    model: ModelConfig
    prompt: PromptConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    register_: Annotated[RegisterConfig, Field(alias="register")]
    tracking: TrackingConfig
    engine: Annotated[TransformersEngine | VllmEngine, Field(discriminator="kind")]
    energy: EnergyConfig

    @model_validator(mode="after")
    def _likelihoods_can_be_had(self) -> "Config":
        if self.evaluate.likelihood and (self.prompt.remote or self.engine.kind != "transformers"):
            raise ValueError(
                "evaluate.likelihood: a server does not tell how likely a target is; take the metric perplexity out, "
                "or prompt.remote=null and engine=transformers"
            )
        return self


def parse(cfg: DictConfig) -> Config:
    """Check a composed configuration against the schema.

    Raises:
        UserError: every problem at once, each with the key's full name.
    """
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration is not complete: {error}") from None
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = [_describe(dict(problem)) for problem in error.errors(include_url=False)]
        raise UserError(
            f"the configuration has {len(problems)} problem(s):\n  " + "\n  ".join(problems) + "\n"
            "Values come from conf/ and the command line; `python -m stages.prepare --help` lists them all."
        ) from None


# Pydantic puts the kind of a section into the path of a problem; nobody wrote it there.
KINDS = {"wheel", "file", "hub", "random", "bm25", "embeddings", "transformers", "vllm"}


def _describe(problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"] if part not in KINDS)
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key.split(".")[-1], _known_keys(Config), n=1)
        return f"{key}: no such key" + (f"; did you mean {close[0]!r}?" if close else "")
    if problem["type"] == "missing":
        return f"{key}: is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{key}: {message}, got {problem['input']!r}"


def _known_keys(section: type[BaseModel]) -> set[str]:
    keys = set()
    for name, field in section.model_fields.items():
        keys.add(field.alias or name)
        for kind in getattr(field.annotation, "__args__", (field.annotation,)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys |= _known_keys(kind)
    return keys
