"""What the sections of the configuration have in common."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Action = Literal["fail", "drop", "warn"]
Hard = Literal["fail", "drop"]
Kind = Literal["chat", "preference", "unpaired", "prompt", "text"]
"""What a record is to training: see `stages.core.data.records.Record.kind`."""


class Section(BaseModel):
    """No unknown keys, no guessing of types (`"5"` is not a number), no change after the check."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )
