"""Check that the verdict is about the model, rows, answers and metric that are there now."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stages.core.data.groups import get_groups
from stages.core.data.looks import find_place, get_look_folder
from stages.core.data.predictions import PREDICTIONS, read_arms
from stages.core.data.records import read_records
from stages.core.data.verdict import MEASURED, VERDICT, check_verdict, split_report
from stages.core.environment.lineage import data_sha256
from stages.core.environment.repository import repository_root
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.models.candidates import Candidate, tuned_candidates
from stages.core.models.loading import weights_sha256
from stages.core.models.measured import hash_measured
from stages.core.statistics.bounds import correct_for_looks, estimate_metric
from stages.core.storage.files import sha256_json
from stages.register.condition import Condition

SHOWN = 5  # how many differences a message lists
TOLERANCE = 1e-9  # another processor may round the last digits otherwise
REMEDY = (
    "Only what was measured can be registered. Run `dvc repro`, or `dvc repro --force "
    "--single-item evaluate` if DVC says that everything is up to date"
)


def check_measured(candidate: Candidate, report: Mapping[str, Any]) -> list[float]:
    """Check the hashes in the verdict and its own, and score the answers of all arms again.

    The scores hold even for a verdict whose own hash was edited with it. A judge is not asked again
    if its replies are in the cache.

    Returns:
        The primary metric of the model of each training seed. The first of them is registered.

    Raises:
        UserError: The verdict is about something else, or its numbers are not those of the answers.
    """
    stable, _ = split_report(report)
    try:
        check_verdict(stable)
    except ValueError as error:
        raise UserError(f"{error}. {REMEDY}") from None
    _check_hashes(candidate, report)
    _check_settings(candidate, report)
    values = _check_estimates(candidate, report)
    if report.get("verdict_sha256") != sha256_json(stable):
        raise UserError(f"{VERDICT} was changed after `evaluate` wrote it and {MEASURED}. {REMEDY}")
    return values


def check_look(candidate: Candidate, report: Mapping[str, Any]) -> Condition:
    """Check that the look at the test rows was counted and is in the ledger, in its place.

    The place is that of the last of the candidates, because all of them were judged together.
    """
    place = report["looks"]["place"]
    if place is None:
        return Condition("look", False, _explain_look(report))
    metric = candidate.config.evaluate.primary_metric
    folder = get_look_folder(repository_root(), data_sha256()["test"])
    judged = (weights_sha256(found.get_folder()) for found in tuned_candidates(candidate.run))
    places = [find_place(folder, metric, weights) for weights in judged]
    known = [found for found in places if found is not None]
    if len(known) == len(places) and max(known) == place:
        sentence = f"the look at the test rows, number {place}, is in the ledger"
        return Condition("look", True, sentence, place)
    why = (
        f"the look at the test rows, number {place}, is not in the ledger {folder}, so it was not "
        "counted. Restore the ledger with git, or run "
        "`dvc repro --force --single-item evaluate`, which records the look"
    )
    return Condition("look", False, why, place)


def _explain_look(report: Mapping[str, Any]) -> str:
    if report["split"] == "validation":
        return (
            "the model was judged on validation rows, which also chose the prompts and the "
            "checkpoint. To judge it once on the test rows, run `dvc exp run` with the same "
            "settings and -S evaluate.split=test"
        )
    return f"the look at the test rows was not counted: {report['looks']['sentence']}"


def _check_hashes(candidate: Candidate, report: Mapping[str, Any]) -> None:
    before = report["lineage"].get("measured_sha256")
    if before is None:
        raise UserError(
            f"{VERDICT} does not say what was measured, because an earlier version wrote it. "
            f"{REMEDY}"
        )
    now = hash_measured(candidate.run)
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if not differ:
        return
    lines = [
        f"{key}: {_shorten(before.get(key))} when it was measured, {_shorten(now.get(key))} now"
        for key in differ[:SHOWN]
    ]
    if len(differ) > SHOWN:
        lines.append(f"and {len(differ) - SHOWN} more")
    raise UserError(
        f"{VERDICT} is about something else than what would be registered:\n  "
        + "\n  ".join(lines)
        + f"\n{REMEDY}"
    )


def _shorten(sha256: str | None) -> str:
    return f"SHA-256 {sha256[:12]}" if sha256 else "missing"


def _check_settings(candidate: Candidate, report: Mapping[str, Any]) -> None:
    """Check what the verdict repeats from the configuration, which the hashes cover."""
    settings = candidate.config.evaluate
    looks = report["looks"]
    place = looks["place"]
    confidence = (
        settings.confidence if place is None else correct_for_looks(settings.confidence, place)
    )
    stated = {
        "candidate": (report.get("candidate"), candidate.name),
        "primary_metric": (report["primary_metric"], settings.primary_metric),
        "split": (report["split"], settings.split),
        "confidence": (report["confidence"], settings.confidence),
        "looks.confidence": (looks["confidence"], confidence),
    }
    for key, (found, expected) in stated.items():
        if found != expected:
            raise UserError(f"{VERDICT} has {key} {found!r} instead of {expected!r}. {REMEDY}")


def _check_estimates(candidate: Candidate, report: Mapping[str, Any]) -> list[float]:
    """Score the answers of every arm again and compare the results with the verdict.

    Returns:
        The primary metric of the candidate's model of each training seed.
    """
    config = candidate.run
    settings = config.evaluate
    name = settings.primary_metric
    records = read_records(settings.split)
    groups = get_groups(records)
    metrics = Metrics([name], {name: settings.options.get(name, {})})
    answered = {arm: [answers] for arm, answers in read_arms(config).items()}
    answered |= {found.name: found.read_predictions() for found in tuned_candidates(config)}
    ids = [record.id for record in records]
    values = {}
    for arm, sheets in answered.items():
        if any([answer.id for answer in answers] != ids for answers in sheets):
            raise UserError(
                f"the answers of {arm} do not match the rows of the {settings.split} split. "
                f"{REMEDY}"
            )
        runs = [metrics.score_records(answers, records)[name] for answers in sheets]
        stated = report["arms"].get(arm, {}).get(name) or {}
        for key, value in asdict(estimate_metric(runs, settings.confidence, groups)).items():
            if not _is_same(stated.get(key), value):
                raise UserError(
                    f"{VERDICT} says that {name} of {arm} has the {key} {stated.get(key)}, but its "
                    f"answers in {PREDICTIONS} have {value}. {REMEDY}"
                )
        values[arm] = [run.value for run in runs]
    return values[candidate.name]


def _is_same(stated: Any, found: float) -> bool:
    """Compare a number of a JSON file, where null stands for infinity and for no number."""
    if stated is None:
        return not math.isfinite(found)
    return isinstance(stated, int | float) and math.isclose(stated, found, abs_tol=TOLERANCE)
