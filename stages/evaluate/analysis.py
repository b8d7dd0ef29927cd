"""All arms scored, compared and judged: the content of `reports/verdict.json`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stages.core.config import Config
from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.lineage import config_sha256, data_sha256, git_commit, git_dirty, versions
from stages.core.models import TUNED
from stages.core.predictions import BASE_ARMS, TUNED_ARM, Prediction, headline
from stages.core.records import Record
from stages.evaluate.costs import get_costs
from stages.evaluate.scores import Metrics, Scores
from stages.evaluate.statistics import Estimate, difference, estimate, p_value
from stages.evaluate.verdict import Comparison, best, decide

ArmScores = dict[str, dict[str, Scores]]


def score_arms(config: Config, records: Sequence[Record], predictions: dict[str, list[Prediction]]) -> ArmScores:
    """Every metric for every arm: arm -> metric -> scores of the rows.

    Raises:
        UserError: an arm's predictions are not of these records, or a metric is unknown.
    """
    metrics, ids = Metrics(config.evaluate.metrics), [record.id for record in records]
    for arm, answers in predictions.items():
        if [answer.id for answer in answers] != ids:
            raise UserError(f"predictions/{arm}.jsonl is not of this test split: run `dvc repro`")
    references = [record.target for record in records]
    return {arm: metrics.score([a.text for a in answers], references) for arm, answers in predictions.items()}


def analyse(config: Config, predictions: dict[str, list[Prediction]], scores: ArmScores) -> dict[str, Any]:
    """The verdict with everything that it rests on."""
    settings = config.evaluate
    estimates = {arm: _estimates(config, of_metric) for arm, of_metric in scores.items()}
    comparisons = _compare(config, scores)
    primary = settings.primary_metric
    best_prompted = best({arm: estimates[arm][primary] for arm in BASE_ARMS})
    decisive = [comparison for comparison in comparisons if comparison.metric == primary]
    verdict = decide(decisive, best_prompted, settings.margin, settings.confidence)
    speed = {arm: headline(answers) for arm, answers in predictions.items()}
    training = read_json(TUNED / "training.json")
    seconds = {arm: numbers["seconds_per_request"] for arm, numbers in speed.items()}
    costs = get_costs(settings.prices, training["numbers"]["seconds"], seconds, TUNED_ARM, best_prompted)
    return {
        **asdict(verdict),
        "primary_metric": primary,
        "best_prompted_arm": best_prompted,
        "rows": len(next(iter(predictions.values()))),
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "margin": settings.margin,
        "arms": {arm: {**{name: asdict(e) for name, e in estimates[arm].items()}, **speed[arm]} for arm in predictions},
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "costs": asdict(costs),
        "training": training["numbers"],
        "lineage": {
            "data": config.data.name,
            "data_sha256": data_sha256(),
            "base_model": training["base_model"],
            "config_sha256": config_sha256(config),
            "git_commit": git_commit(),
            "git_dirty": git_dirty(),
            "seed": config.seed,
            "hardware": training["hardware"],
            "versions": versions(),
        },
    }


def _estimates(config: Config, scores: dict[str, Scores]) -> dict[str, Estimate]:
    settings = config.evaluate
    return {name: estimate(s, settings.confidence, settings.resamples, config.seed) for name, s in scores.items()}


def _compare(config: Config, scores: ArmScores) -> list[Comparison]:
    """The tuned arm against each prompted arm, metric by metric."""
    settings, found = config.evaluate, []
    for metric in settings.metrics:
        ours = scores[TUNED_ARM][metric]
        for arm in BASE_ARMS:
            theirs = scores[arm][metric]
            gap = difference(ours, theirs, settings.confidence, settings.resamples, config.seed)
            p = p_value(ours, theirs, settings.resamples, config.seed)
            found.append(Comparison(TUNED_ARM, arm, metric, gap.value, gap.ci_low, gap.ci_high, p))
    return found
