"""Compare base and tuned model item by item on the tasks of lm-evaluation-harness."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.core.errors import UserError
from stages.core.statistics.bounds import Estimate, compare, estimate_metric
from stages.core.statistics.scores import Scores


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """Compare both models by one metric of one task or group of tasks."""

    task: str
    metric: str
    items: int
    base: Estimate
    tuned: Estimate
    difference: Estimate


def compare_harness(
    base: dict[str, Any], tuned: dict[str, Any], confidence: float
) -> list[HarnessResult]:
    """Compare two results of `stages.core.inference.harness.ask_harness`.

    Metrics that are not a mean over items, such as BLEU and perplexity, are left out, because
    their values cannot be paired.

    Args:
        base: The result of the base model; {} if it was not asked.
        tuned: The result of the tuned model.
        confidence: The confidence of the intervals over items.

    Raises:
        UserError: The two models answered different tasks or items.
    """
    if _items(base) != _items(tuned):
        raise UserError(
            "evaluate.lm_eval: the base model and the tuned model answered different items. "
            "Run `dvc repro -f baseline`."
        )
    return [
        _compare(task, metric, old["scores"], new["scores"], confidence)
        for task, before in base.items()
        for metric, old in before["metrics"].items()
        if old["scores"] is not None
        and (new := tuned[task]["metrics"][metric])["scores"] is not None
    ]


def _items(found: dict[str, Any]) -> dict[str, str]:
    return {task: summary["items_sha256"] for task, summary in found.items()}


def _compare(
    task: str, metric: str, old: list[float], new: list[float], confidence: float
) -> HarnessResult:
    shares = all(0 <= score <= 1 for score in (*old, *new))  # some metrics count otherwise
    before, after = (
        Scores(
            np.column_stack([scores, np.ones(len(scores))]), bounds=(0.0, 1.0) if shares else None
        )
        for scores in (old, new)
    )
    gap = compare(after, before).interval(confidence)
    return HarnessResult(
        task,
        metric,
        len(old),
        estimate_metric(before, confidence),
        estimate_metric(after, confidence),
        gap,
    )
