"""All arms scored, compared and judged: the content of `reports/verdict.json`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stages.core.config import Config
from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.lineage import config_sha256, data_sha256, git_commit, git_dirty, versions
from stages.core.metrics import Metrics, Scores
from stages.core.models import TUNED
from stages.core.predictions import (
    GENERAL_BASE,
    GENERAL_TUNED,
    PREDICTIONS,
    TUNED_ARM,
    Prediction,
    headline,
    prompted_arms,
)
from stages.core.records import Record
from stages.evaluate.costs import get_costs
from stages.evaluate.curve import read_curve
from stages.evaluate.forgetting import compare_general
from stages.evaluate.harness import compare_harness
from stages.evaluate.slices import compare_slices
from stages.evaluate.statistics import Resampling, difference, estimate, holm, p_value, rows_needed
from stages.evaluate.verdict import Comparison, best, decide

ArmScores = dict[str, dict[str, Scores]]


def score_arms(metrics: Metrics, records: Sequence[Record], predictions: dict[str, list[Prediction]]) -> ArmScores:
    """Every metric for every arm: arm -> metric -> scores of the rows.

    Raises:
        UserError: an arm's predictions are not of these records.
    """
    ids = [record.id for record in records]
    for arm, answers in predictions.items():
        if [answer.id for answer in answers] != ids:
            raise UserError(f"predictions/{arm}.jsonl is not of this test split: run `dvc repro`")
    return {arm: metrics.score_records(answers, records) for arm, answers in predictions.items()}


def analyse(
    config: Config,
    records: Sequence[Record],
    predictions: dict[str, list[Prediction]],
    scores: ArmScores,
    metrics: Metrics,
) -> dict[str, Any]:
    """The verdict with everything that it rests on; `metrics` have given the `scores`."""
    settings = config.evaluate
    how = Resampling(settings.confidence, settings.resamples, config.seed, settings.interval)
    estimates = {
        arm: {name: estimate(found, how) for name, found in of_metric.items()} for arm, of_metric in scores.items()
    }
    comparisons = _compare(config, scores, how)
    primary = settings.primary_metric
    best_prompted = best({arm: estimates[arm][primary] for arm in prompted_arms(config) if arm in scores})
    decisive = [comparison for comparison in comparisons if comparison.metric == primary]
    verdict = decide(decisive, best_prompted, settings.margin, settings.confidence)
    speed = {arm: headline(answers) for arm, answers in predictions.items()}
    training = read_json(TUNED / "training.json")
    costs = get_costs(settings.prices, training["numbers"], predictions, TUNED_ARM, best_prompted, how)
    ours, theirs = scores[TUNED_ARM][primary], scores[best_prompted][primary]
    base, tuned = (read_json(path) for path in (GENERAL_BASE, GENERAL_TUNED))
    harness = compare_harness(base.get("harness", {}), tuned["harness"], how) if "harness" in tuned else []
    return {
        **asdict(verdict),
        "primary_metric": primary,
        "best_prompted_arm": best_prompted,
        "rows": len(records),
        "confidence": settings.confidence,
        "interval": settings.interval,
        "resamples": settings.resamples,
        "margin": settings.margin,
        "arms": {arm: {**{name: asdict(e) for name, e in estimates[arm].items()}, **speed[arm]} for arm in predictions},
        "measures": metrics.facts(),
        "remote": config.prompt.remote.model_dump(include={"url", "model"}) if config.prompt.remote else None,
        "choices": read_json(PREDICTIONS / "choices.json"),
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "slices": [asdict(part) for part in compare_slices(settings.slices, records, ours, theirs, how)],
        "confusion": _confusion(metrics, records, predictions, (TUNED_ARM, best_prompted)),
        # A classifier was asked neither.
        "forgetting": asdict(compare_general(base, tuned, how)) if "answers" in tuned else None,
        "harness": [asdict(found) for found in harness],
        "curve": read_curve(config),
        "costs": asdict(costs),
        "training": training["numbers"],
        "lineage": _lineage(config, training),
    }


def _lineage(config: Config, training: dict[str, Any]) -> dict[str, Any]:
    """Where the numbers came from; `training` is the content of `training.json`."""
    return {
        "data": config.data.name,
        "data_sha256": data_sha256(),
        "base_model": training["base_model"],
        "prompted_model": config.model.name,  # the same, but where a head of labels was put on an encoder
        "config_sha256": config_sha256(config),
        "git_commit": git_commit(),
        "git_dirty": git_dirty(),
        "seed": config.seed,
        "hardware": training["hardware"],
        "versions": versions(),
    }


def _confusion(
    metrics: Metrics, records: Sequence[Record], predictions: dict[str, list[Prediction]], arms: Sequence[str]
) -> dict[str, Any] | None:
    """Labels against answers for these arms, where a metric knows labels."""
    found = {arm: table for arm in arms if (table := metrics.confusion(predictions[arm], records))}
    if not found:
        return None
    return {"labels": found[arms[0]]["labels"], "arms": {arm: table["matrix"] for arm, table in found.items()}}


def _compare(config: Config, scores: ArmScores, how: Resampling) -> list[Comparison]:
    """The tuned arm against each prompted arm, metric by metric, the p-values also corrected over all of them."""
    pairs = [(metric, arm) for metric in config.evaluate.metrics for arm in prompted_arms(config) if arm in scores]
    tuned = scores[TUNED_ARM]
    p_values = [p_value(tuned[metric], scores[arm][metric], how.resamples, how.seed) for metric, arm in pairs]
    found = []
    for (metric, arm), p, corrected in zip(pairs, p_values, holm(p_values), strict=True):
        gap, bounds = (difference(tuned[metric], scores[arm][metric], h) for h in (how, how.one_sided))
        between = bounds.ci_low <= config.evaluate.margin <= bounds.ci_high
        rows, margin = len(tuned[metric].rows), config.evaluate.margin
        needed = rows_needed(bounds, margin, rows, how.confidence) if between else None
        interval = (gap.ci_low, gap.ci_high, bounds.ci_low, bounds.ci_high)
        found.append(Comparison(TUNED_ARM, arm, metric, gap.value, *interval, p, corrected, needed))
    return found
