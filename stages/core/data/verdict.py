"""The verdict in two files: one with the evidence, and one with values that differ from run to run.

`reports/verdict.json` has a JSON Schema, `verdict.schema.json`. It is the same for the same answers
and weights. `reports/measured.json` has the seconds, their cost, the commit, how many models have
been judged so far, and the hash of the first file. No stage depends on it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from stages.core.errors import UserError
from stages.core.storage.files import read_json, sha256_json, write_json

VERDICT = Path("reports/verdict.json")
MEASURED = Path("reports/measured.json")
SCHEMA = Path(__file__).with_name("verdict.schema.json")

WHOLE = {"costs", "training", "summary", "alternative", "verdict_sha256"}
PARTS = {"looks": {"count", "sentence"}, "lineage": {"git_commit", "git_dirty"}}
OF_EACH = {"arms": {"seconds_per_request"}, "choices": {"seconds"}}
"""Keys of measured values.

`WHOLE` names whole parts of the report, `PARTS` keys of a part, and `OF_EACH` keys of each entry of
a part.
"""


def write_verdict(report: Mapping[str, Any]) -> None:
    """Write a report to `reports/verdict.json` and `reports/measured.json`.

    Raises:
        ValueError: The report does not follow the schema, which is a defect of Tuneproof.
    """
    stable, measured = split_report(report)
    check_verdict(stable)
    write_json(MEASURED, measured | {"verdict_sha256": sha256_json(stable)})
    write_json(VERDICT, stable)


def check_verdict(stable: Mapping[str, Any]) -> None:
    """Validate the content of `reports/verdict.json` against its schema.

    Raises:
        ValueError: The content does not follow the schema. The message names the most relevant
            place.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(read_json(SCHEMA)).iter_errors(stable))
    if error:
        raise ValueError(
            f"{VERDICT} does not follow {SCHEMA.name}: {error.json_path}: {error.message}"
        )


def read_verdict(folder: Path = Path()) -> dict[str, Any]:
    """Read the report that `write_verdict` wrote.

    Args:
        folder: The folder that contains `reports`.

    Raises:
        UserError: `evaluate` has not run, or a file is not valid JSON.
    """
    return _merge(_read(folder / VERDICT), _read(folder / MEASURED))


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except orjson.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}). Run `dvc repro`, or `dvc repro --force "
            "--single-item evaluate` if DVC says that everything is up to date"
        ) from None


def split_report(report: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a report into what depends only on answers and weights, and what is measured."""
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
    """Merge two nested mappings; lists and plain values are never in both."""
    both = {key: _merge(one[key], other[key]) for key in one.keys() & other.keys()}
    return {**one, **other, **both}
