"""The types and ranges of the configuration.

The values, including the defaults, are in `conf/`.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, model_validator

from stages.core.config.arms import RESERVED, TUNED_ARM
from stages.core.config.base import Name, Section, Seed
from stages.core.config.data import ChecksConfig, DataConfig
from stages.core.config.evaluate import EvaluateConfig

# These modules register the resolvers that a stage needs to compose the configuration.
from stages.core.config.hydra_plugins import conf_digest as _digest  # noqa: F401
from stages.core.config.hydra_plugins import field_texts as _texts  # noqa: F401
from stages.core.config.hydra_plugins import optional_dependencies as _dependencies  # noqa: F401
from stages.core.config.hydra_plugins import registry_names as _names  # noqa: F401
from stages.core.config.hydra_plugins.refused_secrets import RefusedSecrets
from stages.core.config.hydra_plugins.renamed import SEE_DOCS, FormerNames, find_new_key
from stages.core.config.model import ModelConfig, TransformersEngineConfig, VllmEngineConfig
from stages.core.config.prompt import PromptConfig
from stages.core.config.register import RegisterConfig
from stages.core.config.secrets import list_problems
from stages.core.config.train import ANSWERING, CLASSIFYING, TrainConfig
from stages.core.errors import UserError, hide_secrets

Plugins.instance().register(FormerNames)
Plugins.instance().register(RefusedSecrets)

RIVAL_NAME = "[A-Za-z0-9][A-Za-z0-9_-]*"  # it becomes part of paths and of DVC stage names


class TrackingConfig(Section):
    """Where MLflow runs are recorded. No output of a stage depends on it."""

    enabled: bool
    """Whether to record runs in MLflow."""
    uri: str | None
    """The tracking server. Null uses `MLFLOW_TRACKING_URI`, or SQLite at the root of the repository
    if that is not set."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)]
    """The name of the MLflow experiment."""
    timeout: Annotated[int, Field(ge=1)]
    """How many seconds to wait for the server before a stage continues without tracking."""


class EnergyConfig(Section):
    """The measurement of electricity with CodeCarbon."""

    measure: bool
    """Whether to measure the electricity of training and of the answers."""
    country: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    """The country whose electricity mix determines the carbon dioxide, as a three-letter ISO 3166
    code."""


class Config(Section):
    """A resolved configuration, as in `params.yaml`."""

    seed: Seed
    """The seed of everything random."""
    conf_digest: str
    """The digest of the files in `conf/`, by which DVC notices an edit."""
    data: DataConfig
    checks: ChecksConfig
    model: ModelConfig
    prompt: PromptConfig
    train: TrainConfig
    rivals: dict[str, TrainConfig]
    """Further tuned models to compare with. Each has a name and a whole section like `train`."""
    rivals_dependency: Name
    """What the stages after training depend on in DVC besides `train`: the folder of the rivals, if
    there are any."""
    candidate: Name
    """The model that the stage `train` trains: `tuned`, or the name of a rival."""
    evaluate: EvaluateConfig
    register_: Annotated[RegisterConfig, Field(alias="register")]
    tracking: TrackingConfig
    engine: Annotated[TransformersEngineConfig | VllmEngineConfig, Field(discriminator="kind")]
    energy: EnergyConfig

    @model_validator(mode="after")
    def _likelihoods_can_be_had(self) -> "Config":
        if self.evaluate.target_loglikelihood and (
            self.prompt.remote or self.engine.kind != "transformers"
        ):
            raise ValueError(
                "evaluate.target_loglikelihood: a server does not return the likelihood of a "
                "target; set it to false and remove the metric perplexity, or choose "
                "prompt/remote=none and engine=transformers"
            )
        return self

    @model_validator(mode="after")
    def _classifiers_only_classify(self) -> "Config":
        for key, section in {
            "train": self.train,
            **{f"rivals.{name}": it for name, it in self.rivals.items()},
        }.items():
            if section.method in CLASSIFYING and self.evaluate.target_loglikelihood:
                what = f"{key}.method={section.method} trains a classifier, which has no likelihood"
                raise ValueError(
                    f"evaluate.target_loglikelihood: {what}; "
                    "set it to false and remove the metric perplexity"
                )
        if self.train.method in CLASSIFYING and self.evaluate.extra_arms:
            what = f"train.method={self.train.method} trains a classifier"
            raise ValueError(
                f"evaluate.extra_arms: {what}, which takes no instruction; set it to []"
            )
        return self

    @model_validator(mode="after")
    def _rivals_can_be_compared(self) -> "Config":
        for name, section in self.rivals.items():
            if name in RESERVED or name in self.evaluate.extra_arms:
                raise ValueError(
                    f"rivals.{name}: an arm already has this name; choose another name"
                )
            if not re.fullmatch(RIVAL_NAME, name):
                raise ValueError(
                    f"rivals.{name}: the name of a rival may contain only letters, digits, _ and "
                    "-, and must start with a letter or a digit"
                )
            if section.method not in (*ANSWERING, *CLASSIFYING):
                raise ValueError(
                    f"rivals.{name}.method: {section.method} trains a judge, which answers no "
                    "prompts; choose another method"
                )
            if not set(self.train.record_types) <= set(section.record_types):
                rows = ", ".join(self.train.record_types)
                raise ValueError(
                    f"rivals.{name}.record_types: a rival learns from the same rows as the tuned "
                    f"model, so it must accept the types in train.record_types ({rows}); "
                    f"got {', '.join(section.record_types)}"
                )
        if self.candidate not in (TUNED_ARM, *self.rivals):
            known = ", ".join((TUNED_ARM, *self.rivals))
            raise ValueError(f"candidate: there is no rival {self.candidate!r}; use one of {known}")
        return self


def parse(cfg: DictConfig) -> Config:
    """Check a composed configuration against the schema.

    Raises:
        UserError: The configuration holds a secret or has problems. The message lists all of them,
            each with the full name of the key.
    """
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration is incomplete: {hide_secrets(str(error))}") from None
    secrets = list(list_problems(values))
    if secrets:
        raise UserError(
            f"the configuration has {len(secrets)} secret(s), which params.yaml, git and MLflow would "
            "record:\n  " + "\n  ".join(secrets) + "\n"
            "Store a secret in an environment variable, and give the variable's name to a key that "
            "ends with _env (docs/configuration.md, Secrets)."
        )
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = [_describe(dict(problem)) for problem in error.errors(include_url=False)]
        raise UserError(
            f"the configuration has {len(problems)} problem(s):\n  " + "\n  ".join(problems) + "\n"
            "Values come from conf/ and the command line. "
            "`python -m stages.prepare --help` lists all of them."
        ) from None


def read_params() -> Config:
    """Read and check `params.yaml`, which is in the root folder of the repository.

    Raises:
        UserError: The file does not exist, or the configuration has problems.
    """
    try:
        return parse(OmegaConf.load("params.yaml"))  # type: ignore[arg-type]
    except FileNotFoundError:
        raise UserError(
            "params.yaml is not in this folder: run the command in the root folder of the repository"
        ) from None


def list_keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """List the keys of a section and of all sections below it, each with its field text.

    The text may be empty. The keys of rivals are left out, because each rival is like `train`.
    """
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key, " ".join((field.description or "").split())
        if get_origin(field.annotation) is not dict:
            for part in _parts(field.annotation):
                yield from list_keys(part, f"{key}.")


def _describe(problem: dict[str, Any]) -> str:
    # Pydantic adds the kind of a section to the path of a problem, but it is not part of the key.
    fields = [section.model_fields for section in _sections(Config)]
    kinds = {
        kind for known in fields if "kind" in known for kind in get_args(known["kind"].annotation)
    }
    key = ".".join(str(part) for part in problem["loc"] if part not in kinds)
    if problem["type"] == "extra_forbidden":
        new = find_new_key(key)
        if new:
            return f"{key}: this name has changed. Write {new}. {SEE_DOCS}"
        names = [field.alias or name for known in fields for name, field in known.items()]
        close = difflib.get_close_matches(key.split(".")[-1], names, n=1)
        return f"{key}: unknown key" + (f"; did you mean {close[0]!r}?" if close else "")
    if problem["type"] == "missing":
        return f"{key}: this key is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not key:  # the problem concerns several sections, and the message names them
        return message
    # If the problem concerns a whole section, the value is too long for the message.
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return f"{key}.{message}" if re.match(r"[\w.]+: ", message) else f"{key}: {message}"
    return f"{key}: {message}, got {hide_secrets(repr(problem['input']))}"


def _sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the section and all sections below it."""
    yield section
    for field in section.model_fields.values():
        for part in _parts(field.annotation):
            yield from _sections(part)


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """List the sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for kind in get_args(annotation) for part in _parts(kind)]
