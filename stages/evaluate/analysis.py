"""All arms scored, compared and judged: the content of `reports/verdict.json`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stages.core.arms import MODEL_FREE_ARMS, TUNED_ARM
from stages.core.candidates import Candidate, tuned_candidates
from stages.core.config import Config
from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.groups import count_groups, get_groups
from stages.core.lineage import config_sha256, data_sha256, git_commit, git_dirty, versions
from stages.core.metrics import Metrics, Scores
from stages.core.models import weights_sha256
from stages.core.predictions import GENERAL_BASE, PREDICTIONS, Prediction, headline, prompted_arms
from stages.core.records import Record, read_records
from stages.core.sample_size import get_smallest_gain
from stages.core.statistics import Estimate, estimate
from stages.evaluate.costs import Costs, get_costs
from stages.evaluate.curve import read_curve
from stages.evaluate.forgetting import compare_general
from stages.evaluate.harness import compare_harness
from stages.evaluate.health import find_warnings, get_health, split_gain
from stages.evaluate.judging import Contest, judge
from stages.evaluate.looks import Looks
from stages.evaluate.scenarios import Measurements
from stages.evaluate.slices import compare_slices
from stages.evaluate.summary import (
    count_right,
    get_answer,
    get_forgetting,
    get_looks,
    get_missing,
    get_quality,
    get_seeds,
    say,
)
from stages.evaluate.timings import read_timings
from stages.evaluate.verdict import Verdict

ArmScores = dict[str, dict[str, Scores]]


def score_arms(metrics: Metrics, records: Sequence[Record], predictions: dict[str, list[Prediction]]) -> ArmScores:
    """Every metric for every arm: arm -> metric -> scores of the rows.

    Raises:
        UserError: an arm's predictions are not of these records.
    """
    ids = [record.id for record in records]
    for arm, answers in predictions.items():
        if [answer.id for answer in answers] != ids:
            raise UserError(f"predictions/{arm}.jsonl is not of these rows: run `dvc repro`")
    return {arm: metrics.score_records(answers, records) for arm, answers in predictions.items()}


def analyse(
    config: Config,
    records: Sequence[Record],
    predictions: dict[str, list[Prediction]],
    scores: ArmScores,
    metrics: Metrics,
    looks: Looks,
) -> dict[str, Any]:
    """The verdict with everything that it rests on.

    Args:
        config: of the run.
        records: the rows that were judged.
        predictions: of every arm, those without a model first.
        scores: of every arm by every metric.
        metrics: that gave the scores.
        looks: how often models have been judged on these rows.
    """
    settings = config.evaluate
    primary = settings.primary_metric
    groups = get_groups(records)
    candidates = {candidate.name: candidate for candidate in tuned_candidates(config)}
    answered = [arm for arm in predictions if arm in (*MODEL_FREE_ARMS, *prompted_arms(config))]
    contest = Contest.of(answered, list(candidates))
    runs = _get_runs(metrics, records, scores, candidates)
    estimates = {
        arm: {name: estimate(found, settings.confidence, groups) for name, found in of_metric.items()}
        for arm, of_metric in runs.items()
    }
    best_prompted = max(contest.prompted, key=lambda arm: estimates[arm][primary].value)
    costs = _get_costs(config, predictions, scores, candidates, best_prompted)
    judged = judge(
        config,
        contest,
        runs,
        groups,
        looks=max(1, (looks.place or 1) - len(candidates) + 1),  # the candidates of this run are divided by anyway
        cost={arm: amount for arm, amount in costs[TUNED_ARM].per_request.items() if amount is not None},
        cheaper={(name, arm): saves for name, found in costs.items() for arm, saves in found.cheaper.items()},
    )
    verdict = judged.verdict
    candidate = candidates.get(verdict.recommended_arm or "", candidates[TUNED_ARM])
    training = candidate.read_training()
    ours = scores[candidate.name][primary]
    theirs = scores[best_prompted][primary]
    report = {
        "verdict": verdict.verdict,
        "recommended_arm": verdict.recommended_arm,
        "primary_metric": primary,
        "candidate": candidate.name,
        "best_prompted_arm": best_prompted,
        "model_free_arms": list(contest.model_free),
        "prompted_arms": list(contest.prompted),
        "tuned_arms": list(contest.tuned),
        "split": settings.split,
        "looks": asdict(looks),
        "rows": len(records),
        "groups": count_groups(records),
        "confidence": settings.confidence,
        "margin": settings.margin,
        "useful": settings.useful,
        "smallest_gain": _get_smallest_gain(config, ours, theirs),
        "counts": count_right(ours, theirs),
        "arms": _describe_arms(primary, metrics, records, predictions, estimates),
        "gain": _split_gain(primary, metrics, records, predictions[best_prompted], ours, theirs),
        "seeds": get_seeds(
            [vote.verdict for vote in judged.seeds],
            verdict.verdict,
            [found.value for found in runs[candidate.name][primary]],
        ),
        "prompt_search": {"thorough": config.prompt.search.budget != "cheap"},
        "measures": metrics.facts(),
        "remote": config.prompt.remote.model_dump(include={"url", "model"}) if config.prompt.remote else None,
        "choices": read_json(PREDICTIONS / "choices.json"),
        "comparisons": [asdict(comparison) for comparison in judged.comparisons],
        "slices": [asdict(part) for part in compare_slices(settings, records, ours, theirs, groups)],
        "confusion": _confusion(metrics, records, predictions, (candidate.name, best_prompted)),
        **_compare_abilities(candidate, records, predictions[candidate.name]),
        "curve": read_curve(config),
        "costs": asdict(costs[candidate.name]),
        "training": training["numbers"],
        "lineage": _lineage(config, training, weights_sha256(candidate.get_folder())),
    }
    return report | _summarize(report, verdict)


def _get_runs(
    metrics: Metrics, records: Sequence[Record], scores: ArmScores, candidates: dict[str, Candidate]
) -> dict[str, dict[str, list[Scores]]]:
    """Every arm's scores, and of the tuned ones those of every training seed."""
    runs = {arm: {name: [found] for name, found in of_metric.items()} for arm, of_metric in scores.items()}
    for name, candidate in candidates.items():
        for answers in candidate.read_predictions()[1:]:
            for metric, found in metrics.score_records(answers, records).items():
                runs[name][metric].append(found)
    return runs


def _get_costs(
    config: Config,
    predictions: dict[str, list[Prediction]],
    scores: ArmScores,
    candidates: dict[str, Candidate],
    alternative: str,
) -> dict[str, Costs]:
    """The costs as each candidate would have them."""
    primary = config.evaluate.primary_metric
    binary = all(of_metric[primary].binary for of_metric in scores.values())
    measured = Measurements(
        predictions=predictions,
        training={name: _get_numbers(candidate) for name, candidate in candidates.items()},
        timings=read_timings(),
        training_rows=len(read_records("train")),
        right={arm: of_metric[primary].values for arm, of_metric in scores.items()} if binary else None,
    )
    prices = config.evaluate.prices
    return {name: get_costs(prices, measured, name, alternative, config.evaluate.confidence) for name in candidates}


def _get_numbers(candidate: Candidate) -> dict[str, Any]:
    """What its training took, the writing of replay rows included."""
    training = candidate.read_training()
    writing = (training.get("replay") or {}).get("writing_seconds") or 0.0
    return {**training["numbers"], "seconds": training["numbers"]["seconds"] + writing}


def _describe_arms(
    primary: str,
    metrics: Metrics,
    records: Sequence[Record],
    predictions: dict[str, list[Prediction]],
    estimates: dict[str, dict[str, Estimate]],
) -> dict[str, dict[str, Any]]:
    """For each arm its metrics, its tokens and seconds, and the look of its answers."""
    return {
        arm: {
            **{name: asdict(found) for name, found in estimates[arm].items()},
            **headline(answers),
            "health": asdict(get_health(primary, metrics, records, answers)),
        }
        for arm, answers in predictions.items()
    }


def _get_smallest_gain(config: Config, ours: Scores, theirs: Scores) -> float | None:
    """What so many rows could show, by how often the two arms differ; None where rows are not right or wrong."""
    if not (ours.binary and theirs.binary):
        return None
    differ = float((ours.values != theirs.values).mean())
    settings = config.evaluate
    return get_smallest_gain(len(ours.rows), differ, settings.margin, settings.confidence)


def _split_gain(
    primary: str,
    metrics: Metrics,
    records: Sequence[Record],
    rival: Sequence[Prediction],
    ours: Scores,
    theirs: Scores,
) -> dict[str, Any]:
    formed = metrics.well_formed(primary, [answer.text for answer in rival], [record.target for record in records])
    return asdict(split_gain(rival[0].arm, formed, ours, theirs))


def _compare_abilities(
    candidate: Candidate, records: Sequence[Record], answers: Sequence[Prediction]
) -> dict[str, Any]:
    """Base against tuned model beside the task: the general suite, and the harness where it was asked."""
    config = candidate.config
    base = read_json(GENERAL_BASE)
    tuned = read_json(candidate.general)
    confidence = config.evaluate.confidence
    harness = compare_harness(base.get("harness", {}), tuned["harness"], confidence) if "harness" in tuned else []
    task = [record.target for record in records] + [answer.text for answer in answers]
    general = compare_general(base, tuned, confidence, task, config.train) if "answers" in tuned else None
    return {
        "forgetting": asdict(general) if general else None,  # a classifier was not asked
        "harness": [asdict(found) for found in harness],
    }


def _summarize(report: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    """The sentences that people read."""
    return {
        "answer": get_answer(report),
        "summary": [text for text in _get_sentences(report) if text],
        "reasons": [verdict.because, *(say(c, report["confidence"]) for c in _decisive(report))],
        "warnings": find_warnings(report),
    }


def _get_sentences(report: dict[str, Any]) -> list[str | None]:
    """Quality, costs and forgetting, and what this run has not had."""
    return [
        get_quality(report),
        report["costs"]["sentence"],
        get_forgetting(report),
        get_looks(report),
        get_missing(report),
    ]


def _decisive(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The comparisons of the candidate by the primary metric."""
    wanted = (report["candidate"], report["primary_metric"])
    return [c for c in report["comparisons"] if (c["arm"], c["metric"]) == wanted]


def _lineage(config: Config, training: dict[str, Any], model_sha256: str) -> dict[str, Any]:
    """Where the numbers came from; `training` is the content of `training.json`."""
    return {
        "data": config.data.name,
        "data_sha256": data_sha256(),
        "base_model": training["base_model"],
        "model_sha256": model_sha256,
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
