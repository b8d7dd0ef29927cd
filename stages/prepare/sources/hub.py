"""Read rows from a data set of the Hugging Face Hub or a local folder in its format."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.core.config.data import HubDataSource
from stages.core.errors import UserError
from stages.core.storage.hub import explain


def get_commit(source: HubDataSource) -> str | None:
    """Resolve the revision to its current commit, or to None for a local folder.

    Raises:
        UserError: The hub does not have the data set, or cannot be reached.
    """
    from httpx2 import TransportError
    from huggingface_hub import HfApi

    if Path(source.id).is_dir():
        return None
    try:
        return HfApi().dataset_info(source.id, revision=source.revision, timeout=30).sha
    # `HFValidationError` of a wrong id is a `ValueError`.
    except (OSError, ValueError, TransportError) as error:
        raise UserError(f"data.source.id {source.id!r}: {explain(error)}") from None


def read_split(source: HubDataSource, split: str, commit: str | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split at a commit. Numbers of class labels become their names.

    Raises:
        UserError: The data set has no such split or configuration, is a Python script, or cannot be
            read to its end.
    """
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        rows = load_dataset(
            source.id, source.configuration, split=split, revision=commit, streaming=True
        )
        names = _names_of_tags(getattr(rows, "features", None) or {})
        for value in rows:
            yield _name_tags(dict(value), names)
    except Exception as error:
        # datasets and the readers that it calls raise dozens of types, RuntimeError for a script and
        # BadZipFile for an archive among them.
        raise UserError(f"data.source {source.id!r}, split {split!r}: {_say(error)}") from None


def _say(error: Exception) -> str:
    if "scripts are no longer supported" in str(error):
        return (
            "this data set is a Python script, which Tuneproof does not execute. Convert it to "
            "JSONL or Parquet, or choose a revision that has such files (refs/convert/parquet)."
        )
    return explain(error)


def _names_of_tags(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the class names of each column that holds lists of class labels, such as tags."""
    from datasets import ClassLabel

    inner = {column: getattr(feature, "feature", None) for column, feature in features.items()}
    return {column: kind.names for column, kind in inner.items() if isinstance(kind, ClassLabel)}


def _name_tags(value: dict[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    for column in set(names) & set(value):
        known = dict(enumerate(names[column]))
        value[column] = [known.get(number, number) for number in value[column] or []]
    return value
