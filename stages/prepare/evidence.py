"""Whether the data can bear a verdict at all, said before any compute is spent."""

from collections import Counter

from stages.core.config.schema import Config
from stages.core.data.entities import find_kinds
from stages.core.statistics.sample_size import POWER, get_smallest_gain
from stages.prepare.findings import Finding
from stages.prepare.splits import SplitFiles

COUNTS_RIGHT_ROWS = ("exact_match", "accuracy", "numeric_match", "json_match", "sql_execution")
"""Metrics by which a constant that is often right scores well."""
DIFFER = (0.1, 0.3)
"""Shares of the rows on which two arms may differ, for the plan; the shipped examples lie between them."""
UNEVEN = 1.25
"""Times the share of each target where all are equally frequent: up to that none stands out, as with yes and no."""
CLASSES = 0.1  # distinct targets a row, up to which targets are classes


def check_evidence(config: Config, files: SplitFiles) -> list[Finding]:
    """Find what makes a verdict impossible, or easy to win without knowing anything."""
    return [*_check_size(config, files), *_check_targets(config, files)]


def plan(config: Config, rows: int) -> str:
    """The smallest gain that so many test rows show, in a sentence."""
    settings = config.evaluate
    low, high = (
        get_smallest_gain(rows, differ, settings.margin, settings.confidence) for differ in DIFFER
    )
    return (
        f"With {rows:,} test rows, answers that are right or wrong and a margin of {settings.margin}, a gain of "
        f"{low:.3f} is shown with a chance of {POWER:.0%} where two arms differ on {DIFFER[0]:.0%} of the rows, and "
        f"one of {high:.3f} where they differ on {DIFFER[1]:.0%}."
    )


def _check_size(config: Config, files: SplitFiles) -> list[Finding]:
    rows = files.counts["test"]
    if rows >= config.checks.min_test_rows:
        return []
    found = f"{rows} test rows"
    todo = f"give at least {config.checks.min_test_rows} (checks.min_test_rows), or the verdict is not-enough-evidence"
    return [Finding("few_test_rows", config.data.name, 0, "", found, todo)]


def _check_targets(config: Config, files: SplitFiles) -> list[Finding]:
    """One target that is so frequent that always giving it scores well."""
    metric = config.evaluate.primary_metric
    targets: Counter[str] = Counter()
    for batch in files.batches("train"):
        targets.update(record.target for record in batch if record.kind == "chat")
    if metric not in COUNTS_RIGHT_ROWS or not targets:
        return []
    target, count = targets.most_common(1)[0]
    share = count / targets.total()
    if share <= max(config.checks.max_target_share, UNEVEN / len(targets)):
        return []
    shown = " ".join(target.split())[:60]
    found = f"“{shown}” is the target of {share:.0%} of the training rows, and {metric} rewards always giving it"
    return [Finding("frequent_target", config.data.name, 0, "", found, _suggest(targets))]


def _suggest(targets: Counter[str]) -> str:
    if find_kinds(targets):
        return "entity_f1 does not reward that: -S evaluate.primary_metric=entity_f1"
    if len(targets) <= CLASSES * targets.total():
        return "macro_f1 does not reward that: -S evaluate.primary_metric=macro_f1"
    return "choose a metric that counts what answers say, such as set_f1, json_f1 or chrf"
