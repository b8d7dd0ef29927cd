"""Gather everything that was measured: the scores of arms and training seeds, and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.config.arms import MODEL_FREE_ARMS
from stages.core.config.schema import Config
from stages.core.data.groups import get_groups
from stages.core.data.predictions import Prediction, prompted_arms
from stages.core.data.records import Record, read_records
from stages.core.errors import UserError
from stages.core.metrics.metrics import Metrics
from stages.core.models.candidates import Candidate, tuned_candidates
from stages.core.statistics.bounds import Estimate, estimate_metric
from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.judging import Contest
from stages.evaluate.analysis.truncation import Truncation, count_as_right, count_cut
from stages.evaluate.costs.costs import Costs, get_costs
from stages.evaluate.costs.scenarios import Measurements
from stages.evaluate.costs.timings import read_timings

ArmScores = dict[str, dict[str, Scores]]
"""Arm -> metric -> scores of the rows."""
Predictions = dict[str, list[Prediction]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Hold what the verdict and the report rest on."""

    config: Config
    records: Sequence[Record]
    """The rows that are judged."""
    targets: Sequence[str]
    """The distinct targets of these and of the training rows, which show the form of an answer."""
    metrics: Metrics
    predictions: Predictions
    """The answers of every arm, model-free arms first."""
    scores: ArmScores
    runs: dict[str, dict[str, list[Scores]]]
    """Arm -> metric -> the scores of each run. A tuned arm has one run for each training seed."""
    estimates: dict[str, dict[str, Estimate]]
    groups: np.ndarray | None
    """See `stages.core.data.groups`."""
    candidates: dict[str, Candidate]
    """The tuned arms."""
    contest: Contest
    best_prompted: str
    costs: dict[str, Costs]
    """The costs as seen from each candidate."""
    truncations: dict[str, Truncation]
    """The counts of cut answers of each arm that has some."""
    uncut: dict[str, list[Scores]]
    """The scores by the primary metric of each run of an arm with cut answers, which count as right
    where they could have become it."""

    @property
    def primary(self) -> str:
        """Get the metric that decides."""
        return self.config.evaluate.primary_metric


def score_arms(metrics: Metrics, records: Sequence[Record], predictions: Predictions) -> ArmScores:
    """Score every arm by every metric.

    Raises:
        UserError: The predictions of an arm do not belong to these records.
    """
    ids = [record.id for record in records]
    for arm, answers in predictions.items():
        if [answer.id for answer in answers] != ids:
            raise UserError(
                f"predictions/{arm}.jsonl does not match the rows that are judged. Run `dvc repro`."
            )
    return {arm: metrics.score_records(answers, records) for arm, answers in predictions.items()}


def gather(
    config: Config,
    records: Sequence[Record],
    metrics: Metrics,
    predictions: Predictions,
    scores: ArmScores,
) -> Evidence:
    """Gather the results of `baseline`, `train` and the answers to these rows.

    Args:
        config: The configuration of the run.
        records: The rows that are judged.
        metrics: The metrics that gave the scores.
        predictions: The answers of every arm, model-free arms first.
        scores: The scores of every arm by every metric.
    """
    settings = config.evaluate
    groups = get_groups(records)
    candidates = {candidate.name: candidate for candidate in tuned_candidates(config)}
    answered = [arm for arm in predictions if arm in (*MODEL_FREE_ARMS, *prompted_arms(config))]
    contest = Contest.of(answered, list(candidates))
    runs = _get_runs(metrics, records, scores, candidates)
    estimates = {
        arm: {
            name: estimate_metric(found, settings.confidence, groups)
            for name, found in of_metric.items()
        }
        for arm, of_metric in runs.items()
    }
    best_prompted = max(
        contest.prompted, key=lambda arm: estimates[arm][settings.primary_metric].value
    )
    truncations = {
        arm: count_cut(metrics, settings.primary_metric, records, predictions[arm])
        for arm in contest.arms
        if any(answer.cut for answer in predictions[arm])
    }
    training = read_records("train")
    measured = _measure(config, len(training), predictions, scores, candidates, groups)
    costs = {
        name: get_costs(settings.prices, measured, name, best_prompted, settings.confidence)
        for name in candidates
    }
    return Evidence(
        config=config,
        records=records,
        targets=sorted(
            {record.target for record in (*records, *training) if record.kind != "prompt"}
        ),
        metrics=metrics,
        predictions=predictions,
        scores=scores,
        runs=runs,
        estimates=estimates,
        groups=groups,
        candidates=candidates,
        contest=contest,
        best_prompted=best_prompted,
        costs=costs,
        truncations=truncations,
        uncut=_get_uncut(metrics, settings.primary_metric, records, predictions, runs, candidates),
    )


def _get_runs(
    metrics: Metrics,
    records: Sequence[Record],
    scores: ArmScores,
    candidates: Mapping[str, Candidate],
) -> dict[str, dict[str, list[Scores]]]:
    runs = {
        arm: {name: [found] for name, found in of_metric.items()}
        for arm, of_metric in scores.items()
    }
    for name, candidate in candidates.items():
        for answers in candidate.read_predictions()[1:]:
            for metric, found in metrics.score_records(answers, records).items():
                runs[name][metric].append(found)
    return runs


def _get_uncut(
    metrics: Metrics,
    primary: str,
    records: Sequence[Record],
    predictions: Predictions,
    runs: Mapping[str, Mapping[str, list[Scores]]],
    candidates: Mapping[str, Candidate],
) -> dict[str, list[Scores]]:
    found = {}
    for arm, answers in predictions.items():
        more = candidates[arm].read_predictions()[1:] if arm in candidates else []
        sheets = zip([answers, *more], runs[arm][primary], strict=True)
        scores = [count_as_right(metrics, primary, records, *sheet) for sheet in sheets]
        if any(a is not b for a, b in zip(scores, runs[arm][primary], strict=True)):
            found[arm] = scores
    return found


def _measure(
    config: Config,
    training_rows: int,
    predictions: Predictions,
    scores: ArmScores,
    candidates: Mapping[str, Candidate],
    groups: np.ndarray | None,
) -> Measurements:
    """Collect the measurements from which costs are computed."""
    primary = config.evaluate.primary_metric
    binary = all(of_metric[primary].binary for of_metric in scores.values())
    return Measurements(
        predictions=predictions,
        training={name: _get_numbers(candidate) for name, candidate in candidates.items()},
        timings=read_timings(),
        training_rows=training_rows,
        right={arm: of_metric[primary].values for arm, of_metric in scores.items()}
        if binary
        else None,
        groups=groups,
    )


def _get_numbers(candidate: Candidate) -> dict[str, Any]:
    """Get the numbers of a candidate's training, including the time to write replay rows."""
    training = candidate.read_training()
    return {
        **training["numbers"],
        "seconds": training["numbers"]["seconds"] + training["replay_writing_seconds"],
    }
