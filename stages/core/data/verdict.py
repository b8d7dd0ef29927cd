"""The verdict in two files: what it rests on, and what differs from run to run.

`reports/verdict.json` has a JSON Schema, `verdict.schema.json`, and is the same for the same answers and weights.
Seconds, what they cost, the commit and how many models have been judged by now stand in `reports/measured.json`, on
which no stage depends.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.storage.files import read_json, write_json

VERDICT = Path("reports/verdict.json")
MEASURED = Path("reports/measured.json")
SCHEMA = Path(__file__).with_name("verdict.schema.json")

WHOLE = {"costs", "training", "summary", "alternative"}
PARTS = {"looks": {"count", "sentence"}, "lineage": {"git_commit", "git_dirty"}}
OF_EACH = {"arms": {"seconds_per_request"}, "choices": {"seconds"}}
"""Keys of what is measured: whole parts of the report, keys of a part, and keys of each entry of a part."""


def write_verdict(report: Mapping[str, Any]) -> None:
    """Write a report into the two files.

    Raises:
        ValueError: the report does not follow the schema, which is a defect of Tuneproof.
    """
    stable, measured = split_report(report)
    check_verdict(stable)
    write_json(MEASURED, measured)
    write_json(VERDICT, stable)


def check_verdict(stable: Mapping[str, Any]) -> None:
    """Hold the content of `reports/verdict.json` to its schema.

    Raises:
        ValueError: it does not follow it; the message names the first place.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(read_json(SCHEMA)).iter_errors(stable))
    if error:
        raise ValueError(
            f"{VERDICT} does not follow {SCHEMA.name}: {error.json_path}: {error.message}"
        )


def read_verdict(folder: Path = Path()) -> dict[str, Any]:
    """Read the report as `write_verdict` got it.

    Args:
        folder: in which `reports` is.

    Raises:
        UserError: `evaluate` has not run.
    """
    return _merge(read_json(folder / VERDICT), read_json(folder / MEASURED))


def split_report(report: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a report into what is the same for the same answers and weights, and what is not."""
    stable = {key: value for key, value in report.items() if key not in WHOLE}
    measured = {key: value for key, value in report.items() if key in WHOLE}
    for part, keys in PARTS.items():
        if part in report:
            stable[part], measured[part] = _split(report[part], keys)
    for part, keys in OF_EACH.items():
        if part in report:
            found = {name: _split(entry, keys) for name, entry in report[part].items()}
            stable[part] = {name: kept for name, (kept, _) in found.items()}
            measured[part] = {name: moved for name, (_, moved) in found.items() if moved}
    return stable, measured


def _split(values: Mapping[str, Any], keys: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    kept = {key: value for key, value in values.items() if key not in keys}
    return kept, {key: value for key, value in values.items() if key in keys}


def _merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings in one; lists and values are never in both."""
    both = {key: _merge(one[key], other[key]) for key in one.keys() & other.keys()}
    return {**one, **other, **both}
