"""What a configuration may hold: types and ranges. The values, defaults included, stand in `conf/`."""

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, model_validator

from stages.core.config.arms import RESERVED, TUNED_ARM
from stages.core.config.base import Name, Section, Seed
from stages.core.config.data import ChecksConfig, DataConfig
from stages.core.config.evaluate import EvaluateConfig
from stages.core.config.hydra_plugins import conf_digest as _digest  # noqa: F401  (a stage that composes needs the resolvers)
from stages.core.config.hydra_plugins import field_texts as _texts  # noqa: F401
from stages.core.config.hydra_plugins import metric_code as _code  # noqa: F401
from stages.core.config.hydra_plugins import replay_file as _replay  # noqa: F401
from stages.core.config.hydra_plugins import rivals_dependency as _dependency  # noqa: F401
from stages.core.config.model import ModelConfig, TransformersEngine, VllmEngine
from stages.core.config.prompt import PromptConfig
from stages.core.config.train import ANSWERING, CLASSIFYING, TrainConfig
from stages.core.errors import UserError

RIVAL_NAME = "[A-Za-z0-9][A-Za-z0-9_-]*"  # it is a part of paths, and of the names of DVC's stages


class Gate(Section):
    """What a tuned model must show before it is registered."""

    verdict: Literal["fine-tune", "prompt", "no-model", "neither", "not-enough-evidence"] | None
    """The verdict that is needed; null takes any."""
    min_primary_metric: float
    purpose: Literal["one-task", "assistant"]
    """A model for one task may forget everything else, and its card says so; an assistant may not."""
    max_forgetting: Annotated[float, Field(ge=0, le=1)]
    """The largest loss of an assistant on the general suite, as a share of its items: the far end of its interval must
    not lie beyond. What was not measured does not pass."""
    require_beating_champion: bool
    """Whether the lower bound of new model minus champion, on today's test rows, must lie above 0."""


class RegisterConfig(Section):
    """The registered model's name, its alias and the gate."""

    name: Annotated[str, Field(min_length=1, pattern="^[^/:.%\"']+$")]
    alias: Name
    gate: Gate


class TrackingConfig(Section):
    """Where MLflow's runs go. No stage's output depends on it."""

    enabled: bool
    uri: str | None
    """The tracking server; null takes `MLFLOW_TRACKING_URI`, else SQLite at the root of the repository."""
    experiment: Name
    timeout: Annotated[int, Field(ge=1)]
    """How many seconds to wait for the server."""


class EnergyConfig(Section):
    """Electricity by CodeCarbon."""

    measure: bool
    country: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    """The ISO 3166 code of three letters of the country whose mix of electricity makes the carbon dioxide."""


class Config(Section):
    """One resolved configuration: the content of `params.yaml`."""

    seed: Seed
    conf_digest: str
    data: DataConfig
    checks: ChecksConfig
    model: ModelConfig
    prompt: PromptConfig
    train: TrainConfig
    rivals: dict[str, TrainConfig]
    """Further tuned models to compare with, each under its name a whole section like `train`."""
    rivals_dependency: Name
    """What the stages after training depend on where there are rivals: their folder."""
    candidate: Name
    """Which tuned model the stage `train` trains: `tuned`, or the name of a rival."""
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

    @model_validator(mode="after")
    def _classifiers_only_classify(self) -> "Config":
        for key, section in {
            "train": self.train,
            **{f"rivals.{name}": it for name, it in self.rivals.items()},
        }.items():
            if section.method in CLASSIFYING and self.evaluate.likelihood:
                what = f"what {key}.method={section.method} trains has no likelihood of texts"
                raise ValueError(f"evaluate.likelihood: {what}; take the metric perplexity out")
        if self.train.method in CLASSIFYING and self.evaluate.extra_arms:
            what = f"what train.method={self.train.method} trains takes no instruction"
            raise ValueError(f"evaluate.extra_arms: {what}; leave []")
        return self

    @model_validator(mode="after")
    def _rivals_can_be_compared(self) -> "Config":
        for name, section in self.rivals.items():
            if name in RESERVED or name in self.evaluate.extra_arms:
                raise ValueError(
                    f"rivals.{name}: an arm has this name already; choose another name"
                )
            if not re.fullmatch(RIVAL_NAME, name):
                raise ValueError(
                    f"rivals.{name}: a rival's name has letters, digits, _ and - alone"
                )
            if section.method not in (*ANSWERING, *CLASSIFYING):
                raise ValueError(
                    f"rivals.{name}.method: {section.method} makes a judge, which answers no prompts"
                )
            if not set(self.train.kinds) <= set(section.kinds):
                rows = ", ".join(self.train.kinds)
                raise ValueError(
                    f"rivals.{name}.kinds: a rival learns from the rows of the tuned model, whose train.kinds are "
                    f"{rows}; got {', '.join(section.kinds)}"
                )
        if self.candidate not in (TUNED_ARM, *self.rivals):
            known = ", ".join((TUNED_ARM, *self.rivals))
            raise ValueError(f"candidate: there is no rival {self.candidate!r}; there are {known}")
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


def list_texts(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """List the keys of a section and of those below it with their texts. Rivals are left out: they are like `train`."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        if field.description:
            yield key, " ".join(field.description.split())
        if get_origin(field.annotation) is not dict:
            for part in _parts(field.annotation):
                yield from list_texts(part, f"{key}.")


def _describe(problem: dict[str, Any]) -> str:
    # Pydantic puts the kind of a section into the path of a problem; nobody wrote it there.
    fields = [section.model_fields for section in _sections(Config)]
    kinds = {
        kind for known in fields if "kind" in known for kind in get_args(known["kind"].annotation)
    }
    key = ".".join(str(part) for part in problem["loc"] if part not in kinds)
    if problem["type"] == "extra_forbidden":
        names = [field.alias or name for known in fields for name, field in known.items()]
        close = difflib.get_close_matches(key.split(".")[-1], names, n=1)
        return f"{key}: no such key" + (f"; did you mean {close[0]!r}?" if close else "")
    if problem["type"] == "missing":
        return f"{key}: is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not key:  # of sections that do not go together: the message names them
        return message
    if problem["type"] == "value_error" and isinstance(
        problem["input"], dict
    ):  # of a whole section, which is long
        return f"{key}.{message}" if re.match(r"[\w.]+: ", message) else f"{key}: {message}"
    return f"{key}: {message}, got {problem['input']!r}"


def _sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the section and all sections below it."""
    yield section
    for field in section.model_fields.values():
        for part in _parts(field.annotation):
            yield from _sections(part)


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field may hold."""
    kinds = get_args(annotation) or (annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
