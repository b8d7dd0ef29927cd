"""What a configuration may hold: types and ranges. The values, defaults included, stand in `conf/`."""

import difflib
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.core.errors import UserError
from stages.core.hydra_plugins import conf_digest as _resolver  # noqa: F401  (a door that composes needs `${conf_digest:}`)
from stages.core.records import Kind

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


SplitName = Literal["train", "validation", "test"]


class FileSource(Section):
    """Local files, or what fsspec reaches: JSONL, JSON, CSV, TSV, Parquet or text, also .gz, .bz2, .xz or .zst."""

    kind: Literal["file"]
    path: Name | dict[SplitName, Name]
    """A path, a glob or a URL; or one for each split that is given."""


class HubDataSource(Section):
    """A data set of the Hugging Face hub, or a local folder in its format."""

    kind: Literal["hub"]
    id: Name
    revision: str | None
    """A commit, tag or branch; null is the default branch. The commit used is recorded."""
    configuration: str | None
    split: Name | dict[SplitName, Name]
    """The hub's split, or one for each split that is given."""


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
    """Shares of the rows that are not given to a split already; what is left is for training."""

    validation: Share
    test: Share
    column: Name | None
    """A column that says train, validation (dev, valid, val) or test; null where there is none."""
    stratify: bool
    """Where rows have a label, keep its share in each split. A row's split then depends on the equal labels before it:
    appending rows moves none, inserting may. Without it, and where there is no label, nothing moves a row."""

    @model_validator(mode="after")
    def _leave_rows_for_training(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows for training (a sum below 1)")
        return self


class DataConfig(Section):
    """The rows and how they are split."""

    name: Name
    source: Annotated[WheelSource | FileSource | HubDataSource, Field(discriminator="kind")]
    format: Literal[
        "auto",
        "chat",
        "openai-preference",
        "sharegpt",
        "evals",
        "preference",
        "unpaired-preference",
        "prompt-completion",
        "instruction",
        "labelled",
        "prompt",
        "text",
    ]
    """What a row looks like; `auto` goes by the columns of the first row."""
    limit: Count | None
    """Rows to read, the first ones; null reads all."""
    columns: dict[str, str]
    """Column names of the format -> names in the file, where they differ."""
    group: Name | None
    """A column: rows with the same value never part into two splits."""
    label: Name | None
    """A column with a class; null takes the format's own, where it has one."""
    keep: list[Name]
    """Columns that stay with the record as `meta`."""
    watch: Name
    """The local file that DVC watches for `prepare`."""
    split: Split


class ChecksConfig(Section):
    """What happens to a row for each kind of finding; the names are OpenAI's where its cookbook has one.

    A row with a `Hard` finding cannot become a record, so that it is no choice to pass it on with a warning.
    """

    shown: Count
    """Findings of each kind in the message; all of them are in `findings.jsonl`."""
    preview: Count
    """Rows in the preview of what training sees."""
    min_rows: Count
    near_duplicate_threshold: Annotated[float, Field(gt=0.3, lt=1)]
    """Jaccard similarity of the three-word shingles of two questions, and of two answers, from which they are near."""
    leak_limit: Annotated[float, Field(ge=0, le=1)]
    """Share of validation and test rows that may have a near-duplicate in another split; more of them stop prepare."""
    bad_json: Hard
    """A line that is not JSON, or a CSV row with more fields than the header."""
    encoding: Hard
    """A line that is not UTF-8."""
    data_type: Hard
    """A row that is not an object."""
    unknown_format: Hard
    """A row without the columns of the format."""
    unknown_split: Hard
    """A value of `data.split.column` that names no split."""
    wrong_kind: Hard
    """A record that the chosen training method does not learn from (`train.kinds`)."""
    missing_messages_list: Hard
    message_missing_key: Hard
    message_unrecognized_key: Action
    unrecognized_role: Hard
    missing_content: Hard
    """A message whose content is empty or not text."""
    unsupported_content: Hard
    """A part of a message that is an image, a sound or a file."""
    example_missing_assistant_message: Hard
    bad_completion: Hard
    """A chosen, rejected or judged answer that is not exactly one message of the assistant."""
    empty_target: Hard
    """The last message is not the assistant's, or it is empty."""
    missing_user: Action
    """No message of the user before the target."""
    no_trained_token: Hard
    """No answer has weight 1, or the chat template leaves the answers out."""
    no_end_token: Hard
    """The end of the turn is not among the trained tokens."""
    bad_weight: Hard
    """A weight that is not 0 or 1."""
    bad_tools: Hard
    """Tools or calls that are not in OpenAI's form."""
    undefined_tool: Action
    """A call of a tool that the row does not define."""
    unseen_tools: Action
    """The model's chat template does not show the tools of a row."""
    template_refuses: Hard
    """The model's chat template raises an error for the row."""
    too_long: Literal["fail", "drop", "truncate"]
    """More tokens than the model's limit. `truncate` cuts the beginning of the longest message of the prompt."""
    too_few_rows: Literal["fail", "warn"]
    """Fewer sound rows than `min_rows`."""
    label_seen_once: Action
    """A label that a single row has."""
    turn_order: Action
    """Two messages of the user or of the assistant in a row, or a system message that is not the first."""
    target_in_prompt: Action
    """The target stands word for word in the question."""
    secret: Action
    """A key, a token or a password, by the detectors of detect-secrets."""
    duplicate: Action
    """A row equal to an earlier one."""
    normalised_duplicate: Action
    """A row equal to an earlier one but for case, spacing and forms of the same character."""
    near_duplicate: Action
    """A row nearly equal to an earlier one of its split."""
    leak: Action
    """A row nearly equal to one of a held-out split. `drop` leaves out the one that is trained on."""


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

    kinds: Annotated[list[Kind], Field(min_length=1)]
    """Kinds of records that this method learns from."""
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
