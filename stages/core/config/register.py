"""The section of the configuration for the registry and its gate."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.core.config.base import Name, Section

Answer = Literal["fine-tune", "prompt", "no-model", "neither", "not-enough-evidence"]
"""The verdicts."""
Licensed = Literal["base_model", "data", "adapter", "teacher"]
"""What a tuned model is made of and may have a licence: the adapter is that of `init_adapter`, and
the teacher that of `teacher_model`."""


class Gate(Section):
    """The conditions under which a tuned model is registered."""

    verdict: Answer | None
    """The verdict that is required. Null accepts any verdict."""
    min_primary_metric: float
    """The smallest value of the primary metric that the tuned model may have."""
    purpose: Literal["one-task", "assistant"]
    """Whether the model serves one task or as a general assistant. A model for one task may forget
    everything else, and its card says so."""
    max_forgetting: Annotated[float, Field(ge=0, le=1)]
    """The largest loss on the general suite that an assistant may have, as a share of the items of
    the suite. The far end of the interval of the loss counts. The gate stays closed if the loss was
    not measured."""
    require_beating_champion: bool
    """Whether the lower bound of the difference between the new model and the champion, on the
    current test rows, must be above 0."""
    max_cut_fraction: Annotated[float, Field(ge=0, le=1)]
    """The share of the answers that `prompt.max_new_tokens` may cut off. A model that has not
    learned its end token is cut off in nearly all of them."""
    allowed_licenses: list[Name]
    """The licences that base model, data, adapter and teacher may have, as ids of SPDX or patterns
    with `*`."""
    accept_unknown_licenses: list[Licensed]
    """What may have an unknown licence. The card then says so."""


class RegisterConfig(Section):
    """The name and the alias of the registered model, and the gate."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """The name of the model in the MLflow registry."""
    alias: Annotated[str, Field(min_length=1, max_length=255)]
    """The alias that a model gets if it passes the gate."""
    licenses: dict[Name, Name]
    """The licences of base models and data by their names, as ids of SPDX or `unknown`. What is not
    here is unknown, except for models of the hub, whose cards state a licence."""
    gate: Gate

    @model_validator(mode="after")
    def _mlflow_accepts_the_names(self) -> "RegisterConfig":
        if not re.fullmatch(r"[\w-]+( [\w-]+)*", self.name):
            raise ValueError(
                f"name {self.name!r} may contain only letters, digits, _, - and single spaces "
                "between them, because MLflow or its addresses (models:/<name>@<alias>) do not "
                "accept others; set register.name"
            )
        check_alias(self.alias)
        return self


def check_alias(alias: str) -> None:
    """Raise ValueError, with the reason, for an alias that MLflow does not accept."""
    if not re.fullmatch(r"[\w-]+", alias):
        raise ValueError(
            f"alias {alias!r} may contain only letters, digits, _ and -, because MLflow accepts no "
            "others"
        )
    if re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        raise ValueError(
            f"alias {alias!r} is reserved by MLflow, which uses latest and v<number> for versions; "
            "choose another, such as champion"
        )
