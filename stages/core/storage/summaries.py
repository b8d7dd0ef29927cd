"""The headline numbers of each stage in `metrics/<stage>.json`.

DVC compares these files, and the MLflow run of the execution shows their numbers.
"""

from pathlib import Path
from typing import Any

from stages.core.storage.files import write_json

SUMMARIES = Path("metrics")


def get_summary_file(stage: str) -> Path:
    """Return the file with the headline numbers of a stage; `rivals/<name>` is a stage too."""
    return SUMMARIES / f"{stage}.json"


def write_summary(stage: str, values: dict[str, Any]) -> None:
    """Write the headline numbers of a stage."""
    write_json(get_summary_file(stage), values)
