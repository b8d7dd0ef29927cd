"""The headline numbers of a stage: `metrics/<stage>.json`, which DVC compares and the run of the execution shows."""

from pathlib import Path
from typing import Any

from stages.core.storage.files import write_json

SUMMARIES = Path("metrics")


def get_summary_file(stage: str) -> Path:
    """Where the numbers of a stage are; `rivals/<name>` is a stage too."""
    return SUMMARIES / f"{stage}.json"


def write_summary(stage: str, values: dict[str, Any]) -> None:
    """Write the numbers of a stage."""
    write_json(get_summary_file(stage), values)
