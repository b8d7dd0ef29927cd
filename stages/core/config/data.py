"""What `data` and `checks` may hold. The values stand in `conf/`."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stages.core.config.base import Action, Count, Hard, Name, Section, Share


class WheelSource(Section):
    """One file inside a wheel of the package index that pip is configured for."""

    kind: Literal["wheel"]
    package: Name
    version: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The SHA-256 of the wheel, in hex."""
    member: Name
    """The path of the file inside the wheel."""


SplitName = Literal["train", "validation", "test"]


class FileSource(Section):
    """Local files, or what fsspec reaches: JSONL, JSON, CSV, TSV, Parquet or text, also .gz, .bz2, .xz or .zst."""

    kind: Literal["file"]
    path: Name | dict[SplitName, Name]
    """The path, glob or URL of the rows; or one for each split that is given."""


class HubDataSource(Section):
    """A data set of the Hugging Face hub, or a local folder in its format."""

    kind: Literal["hub"]
    id: Name
    revision: str | None
    """The commit, tag or branch to read; null reads the default branch. The commit that was read is recorded."""
    configuration: str | None
    split: Name | dict[SplitName, Name]
    """The split of the hub that is read, or one for each split that is given."""


class Split(Section):
    """Shares of the rows that are not given to a split already; what is left is for training."""

    validation: Share
    test: Share
    column: Name | None
    """The column that says train, validation (dev, valid, val) or test; null where there is none."""
    stratify: bool
    """Where rows have a label, keep its share in each split. A row's split then depends on the equal labels before it:
    appending rows moves none, inserting may. Without it, and where there is no label, nothing moves a row."""

    @model_validator(mode="after")
    def _leave_rows_for_training(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave rows for training (a sum below 1)"
            )
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
        "tokens",
        "prompt",
        "text",
    ]
    """What a row looks like; `auto` goes by the columns of the first row."""
    limit: Count | None
    """How many rows are read, from the first one on; null reads all."""
    lines: Name | None
    """Of a text file: a regular expression that a line matches as a whole, its named groups the columns of a row; null
    takes a paragraph as a row with the column `text`."""
    columns: dict[str, str]
    """Maps column names of the format to names in the file, where they differ."""
    group: Name | None
    """The column whose equal values keep rows in one split."""
    group_starts: list[Count]
    """Where no column names the groups but they follow one another (the sentences of a document): the rows at which a
    group begins, counted from 1 in the order of the source, but for the first group; empty where there are none."""
    label: Name | None
    """The column that holds a class; null takes the one of the format, where it has one."""
    keep: list[Name]
    """The columns that stay with the record as `meta`."""
    watch: Name
    """The local file that DVC watches for `prepare`."""
    split: Split

    @field_validator("lines")
    @classmethod
    def _name_the_columns(cls, lines: str | None) -> str | None:
        try:
            named = lines is None or re.compile(lines).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not named:
            raise ValueError("name the columns: (?P<label>\\w+) (?P<text>.+)")
        return lines

    @model_validator(mode="after")
    def _group_one_way(self) -> "DataConfig":
        if self.group and self.group_starts:
            raise ValueError(
                "group and group_starts exclude each other: name a column, or the rows where groups begin"
            )
        if self.group_starts != sorted(set(self.group_starts)):
            raise ValueError("group_starts: give each row once, in rising order")
        return self


class ChecksConfig(Section):
    """What happens to a row for each kind of finding; the names are OpenAI's where its cookbook has one.

    A row with a `Hard` finding cannot become a record, so that it is no choice to pass it on with a warning.
    """

    shown: Count
    """How many findings of each kind the message shows; `findings.jsonl` has all of them."""
    preview: Count
    """How many rows the preview of what training sees shows."""
    min_rows: Count
    near_duplicate_threshold: Annotated[float, Field(gt=0.3, lt=1)]
    """Jaccard similarity of the three-word shingles of two questions, and of two answers, from which they are near."""
    leak_limit: Annotated[float, Field(ge=0, le=1)]
    """The share of validation and test rows that may have a near-duplicate in another split; more stop `prepare`."""
    min_test_rows: Annotated[int, Field(ge=0)]
    """With fewer test rows the verdict is `not-enough-evidence` (Bowyer et al., 2025, on small tests)."""
    max_target_share: Annotated[float, Field(gt=0, le=1)]
    """Share of the training rows that may have one and the same target, where the primary metric counts right rows.

    Of few targets one may always have 1.25 times its even share.
    """
    bad_json: Hard
    """A line that is not JSON or does not match `data.lines`, or a CSV row with more fields than the header."""
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
    bad_tags: Hard
    """Tokens and tags that do not go together, or a tag that is none."""
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
    few_test_rows: Literal["fail", "warn"]
    """Fewer test rows than `min_test_rows`."""
    frequent_target: Literal["fail", "warn"]
    """One target is so frequent that the primary metric rewards always giving it."""
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
