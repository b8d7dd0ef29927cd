"""Types that the sections of the configuration share."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Action = Literal["fail", "drop", "warn"]
Hard = Literal["fail", "drop"]
Kind = Literal["chat", "preference", "unpaired", "prompt", "text"]
"""The kind of a record for training, see `stages.core.data.records.Record.kind`."""


class Section(BaseModel):
    """A section of the configuration that is immutable and strictly checked.

    It accepts no unknown keys, converts no types (`"5"` is not a number), and accepts neither NaN
    nor infinity, with which every comparison is false or true.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
