"""Check before any compute is spent whether the data can support a verdict."""

from collections import Counter

from stages.core.config.schema import Config
from stages.core.data.entities import find_kinds
from stages.core.secret_formats import mask_secrets
from stages.core.statistics.sample_size import POWER, get_smallest_gain
from stages.prepare.findings import Finding
from stages.prepare.splits import SplitFiles

COUNTS_RIGHT_ROWS = ("exact_match", "accuracy", "numeric_match", "json_match", "sql_execution")
"""Metrics that give a high score to a constant answer that is often right."""
DIFFER = (0.1, 0.3)
"""Shares of rows on which two arms differ, for the plan. The shipped examples lie between them."""
UNEVEN = 1.25
"""The multiple of an even share up to which a target does not count as frequent.

It keeps balanced targets, such as yes and no, from being reported.
"""
CLASSES = 0.1
"""The largest ratio of distinct targets to rows at which the targets count as classes."""


def check_evidence(config: Config, files: SplitFiles, hint: str = "") -> list[Finding]:
    """Find what makes a verdict impossible, or lets a constant answer win it.

    Args:
        config: The configuration of the run.
        files: The splits.
        hint: How there would be more test rows.
    """
    return [*_check_size(config, files, hint), *_check_targets(config, files)]


def plan(config: Config, rows: int) -> str:
    """Say in a sentence how small a gain this number of test rows can show."""
    settings = config.evaluate
    low, high = (
        get_smallest_gain(rows, differ, settings.margin, settings.confidence) for differ in DIFFER
    )
    return (
        f"With {rows:,} test rows, right-or-wrong answers and a margin of {settings.margin}, "
        f"a gain of {low:.3f} is shown with a probability of {POWER:.0%} "
        f"if two arms differ on {DIFFER[0]:.0%} of the rows, "
        f"and a gain of {high:.3f} if they differ on {DIFFER[1]:.0%}."
    )


def _check_size(config: Config, files: SplitFiles, hint: str) -> list[Finding]:
    rows = files.counts["test"]
    if rows >= config.checks.min_test_rows:
        return []
    found = f"{rows} test rows"
    todo = (
        f"give at least {config.checks.min_test_rows} (checks.min_test_rows), "
        "otherwise the verdict is not-enough-evidence"
    )
    todo = f"{todo}. {hint}" if hint else todo
    return [Finding("few_test_rows", config.data.name, 0, "", found, todo)]


def _check_targets(config: Config, files: SplitFiles) -> list[Finding]:
    """Find a target that is so frequent that a model which always gives it scores well."""
    metric = config.evaluate.primary_metric
    targets: Counter[str] = Counter()
    for batch in files.batches("train"):
        targets.update(record.target for record in batch if record.kind == "chat")
    if metric not in COUNTS_RIGHT_ROWS or not targets:
        return []
    target, count = targets.most_common(1)[0]
    share = count / targets.total()
    if share <= max(config.checks.max_target_fraction, UNEVEN / len(targets)):
        return []
    shown = " ".join(mask_secrets(target).split())[:60]
    found = (
        f"“{shown}” is the target of {share:.0%} of the training rows, "
        f"and {metric} rewards a model that always gives it"
    )
    return [Finding("frequent_target", config.data.name, 0, "", found, _suggest(targets))]


def _suggest(targets: Counter[str]) -> str:
    if find_kinds(targets):
        return "use entity_f1, which does not: -S evaluate.primary_metric=entity_f1"
    if len(targets) <= CLASSES * targets.total():
        return "use macro_f1, which does not: -S evaluate.primary_metric=macro_f1"
    return "use a metric of the answer's content, such as set_f1, json_f1 or chrf"
