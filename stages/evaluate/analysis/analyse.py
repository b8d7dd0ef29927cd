"""Build the report: the verdict and everything that it rests on."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import Config
from stages.core.data.groups import count_groups
from stages.core.data.predictions import GENERAL_BASE, read_choices, summarize_predictions
from stages.core.environment.lineage import config_sha256, data_sha256, versions
from stages.core.environment.repository import git_commit, git_dirty
from stages.core.models.candidates import Candidate
from stages.core.models.loading import get_dtype
from stages.core.models.measured import hash_measured
from stages.core.statistics.sample_size import get_smallest_gain
from stages.core.statistics.scores import Scores
from stages.core.storage.files import read_json
from stages.evaluate.analysis.curve import read_curve
from stages.evaluate.analysis.evidence import Evidence
from stages.evaluate.analysis.forgetting import compare_general
from stages.evaluate.analysis.harness import compare_harness
from stages.evaluate.analysis.health import find_warnings, get_health, split_gain
from stages.evaluate.analysis.judging import Judged, judge
from stages.evaluate.analysis.looks import Looks
from stages.evaluate.analysis.slices import compare_slices
from stages.evaluate.analysis.summary import count_right, get_answer, get_seeds, get_summary, say

Report = dict[str, Any]


def analyse(evidence: Evidence, looks: Looks, weights: Mapping[str, str]) -> Report:
    """Judge the arms and describe the result.

    Args:
        evidence: Everything that was measured.
        looks: How often models have been judged on these rows.
        weights: The SHA-256 of each candidate's weights.

    Returns:
        The report, which `stages.core.data.verdict.write_verdict` writes.
    """
    judged = _judge(evidence, looks)
    recommended = judged.verdict.recommended_arm
    candidate = evidence.candidates.get(recommended or "", evidence.candidates[TUNED_ARM])
    training = candidate.read_training()
    config = evidence.config
    report: Report = {
        "verdict": judged.verdict.verdict,
        "recommended_arm": recommended,
        "alternative": judged.verdict.alternative,
        "truncation": {
            "decides": judged.verdict.truncated,
            "arms": {arm: asdict(found) for arm, found in evidence.truncations.items()},
        },
        "candidate": candidate.name,
        **_describe_settings(evidence, looks),
        **_describe_arms(evidence),
        **_describe_gain(evidence, judged, candidate.name),
        **_compare_abilities(evidence, candidate),
        "curve": read_curve(config),
        "costs": asdict(evidence.costs[candidate.name]),
        "training": training["numbers"],
        "lineage": _lineage(config, training, weights[candidate.name]),
    }
    return report | _summarize(report, judged)


def _judge(evidence: Evidence, looks: Looks) -> Judged:
    costs = evidence.costs
    return judge(
        evidence.config,
        evidence.contest,
        evidence.runs,
        evidence.groups,
        uncut=evidence.uncut,
        # `judge` already divides alpha by the number of this run's candidates.
        looks=max(1, (looks.place or 1) - len(evidence.candidates) + 1),
        cost={
            arm: amount
            for arm, amount in costs[TUNED_ARM].per_request.items()
            if amount is not None
        },
        cheaper={
            (name, arm): saves
            for name, found in costs.items()
            for arm, saves in found.cheaper.items()
        },
    )


def _describe_settings(evidence: Evidence, looks: Looks) -> Report:
    """Describe the rule, the rows and the metrics of the verdict."""
    config = evidence.config
    settings = config.evaluate
    remote = config.prompt.remote
    return {
        "primary_metric": evidence.primary,
        "split": settings.split,
        "looks": asdict(looks),
        "rows": len(evidence.records),
        "min_rows": config.checks.min_test_rows,
        "groups": count_groups(evidence.records),
        "confidence": settings.confidence,
        "margin": settings.margin,
        "min_useful_value": settings.min_useful_value,
        "measures": evidence.metrics.metadata(),
        "remote": remote.model_dump(include={"base_url", "model"}) if remote else None,
        "choices": read_choices(),
        "prompt_search": {"thorough": config.prompt.search.budget != "cheap"},
    }


def _describe_arms(evidence: Evidence) -> Report:
    """List the arms with their metrics, tokens, seconds and the health of their answers."""
    contest = evidence.contest
    return {
        "best_prompted_arm": evidence.best_prompted,
        "model_free_arms": list(contest.model_free),
        "prompted_arms": list(contest.prompted),
        "tuned_arms": list(contest.tuned),
        "arms": {
            arm: {
                **{name: asdict(found) for name, found in evidence.estimates[arm].items()},
                **summarize_predictions(answers),
                "health": asdict(
                    get_health(
                        evidence.primary,
                        evidence.metrics,
                        evidence.records,
                        answers,
                        evidence.targets,
                    )
                ),
            }
            for arm, answers in evidence.predictions.items()
        },
    }


def _describe_gain(evidence: Evidence, judged: Judged, candidate: str) -> Report:
    """Compare the candidate with the best prompted arm, and list all comparisons."""
    primary = evidence.primary
    rival = evidence.best_prompted
    records = evidence.records
    ours = evidence.scores[candidate][primary]
    theirs = evidence.scores[rival][primary]
    answers = [answer.text for answer in evidence.predictions[rival]]
    formed = evidence.metrics.well_formed(primary, answers, evidence.targets)
    settings = evidence.config.evaluate
    votes = [vote.verdict for vote in judged.seeds]
    values = [found.value for found in evidence.runs[candidate][primary]]
    return {
        "bound_confidence": judged.bound_confidence,
        "smallest_gain": _get_smallest_gain(ours, theirs, settings.margin, judged.bound_confidence),
        "counts": count_right(ours, theirs),
        "gain": asdict(split_gain(rival, formed, ours, theirs)),
        "seeds": get_seeds(votes, judged.verdict.verdict, values),
        "comparisons": [asdict(comparison) for comparison in judged.comparisons],
        "slices": [
            asdict(part)
            for part in compare_slices(settings, records, ours, theirs, evidence.groups)
        ],
        "confusion": _confusion(evidence, candidate),
    }


def _get_smallest_gain(
    ours: Scores, theirs: Scores, margin: float, confidence: float
) -> float | None:
    """Get the smallest gain that this number of rows can show with a lower bound.

    Returns:
        The gain, given how often the two arms differ; None if rows are not right or wrong.
    """
    if not (ours.binary and theirs.binary):
        return None
    differ = float((ours.values != theirs.values).mean())
    return get_smallest_gain(len(ours.rows), differ, margin, confidence)


def _confusion(evidence: Evidence, candidate: str) -> Report | None:
    """Get the confusion matrices of the candidate and the best prompted arm.

    Returns:
        Labels and matrices; None if no metric knows labels.
    """
    arms = (candidate, evidence.best_prompted)
    tables = {
        arm: evidence.metrics.confusion(evidence.predictions[arm], evidence.records) for arm in arms
    }
    found = {arm: table for arm, table in tables.items() if table}
    if not found:
        return None
    return {
        "labels": found[candidate]["labels"],
        "arms": {arm: table["matrix"] for arm, table in found.items()},
    }


def _compare_abilities(evidence: Evidence, candidate: Candidate) -> Report:
    """Compare base and tuned model beyond the task, on the general suite and on the harness."""
    base = read_json(GENERAL_BASE)
    tuned = read_json(candidate.general)
    confidence = evidence.config.evaluate.confidence
    harness = (
        compare_harness(base.get("harness", {}), tuned["harness"], confidence)
        if "harness" in tuned
        else []
    )
    targets = [record.target for record in evidence.records]
    task = targets + [answer.text for answer in evidence.predictions[candidate.name]]
    train = candidate.config.train
    general = compare_general(base, tuned, confidence, task, train) if "answers" in tuned else None
    return {
        "forgetting": asdict(general) if general else None,  # a classifier was not asked
        "harness": [asdict(found) for found in harness],
    }


def _summarize(report: Report, judged: Judged) -> Report:
    """Write the sentences that people read."""
    wanted = (report["candidate"], report["primary_metric"])
    decisive = [c for c in report["comparisons"] if (c["arm"], c["metric"]) == wanted]
    return {
        "answer": get_answer(report),
        "summary": get_summary(report),
        "reasons": [judged.verdict.because, *(say(c, report["confidence"]) for c in decisive)],
        "warnings": find_warnings(report),
    }


def _lineage(config: Config, training: Mapping[str, Any], model_sha256: str) -> Report:
    """Record where the numbers came from; `training` is the content of `training.json`."""
    return {
        "data": config.data.name,
        "data_sha256": data_sha256(),
        "base_model": training["base_model"],
        "model_sha256": model_sha256,
        "measured_sha256": hash_measured(config),
        "dtype": str(get_dtype(config.model.dtype)).removeprefix("torch."),
        # Differs from the base model if an encoder with a classification head was tuned.
        "prompted_model": config.model.name,
        "config_sha256": config_sha256(config),
        "git_commit": git_commit(),
        "git_dirty": git_dirty(),
        "seed": config.seed,
        "hardware": training["hardware"],
        "versions": versions(),
    }
