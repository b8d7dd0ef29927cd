"""Summarize quality, costs and forgetting in sentences for a manager, on the first screen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.core.config.arms import CONSTANT_ARM, TUNED_ARM
from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.health import join, shorten
from stages.evaluate.analysis.truncation import warn_about_cuts

Report = Mapping[str, Any]


def get_summary(report: Report) -> list[str]:
    """Summarize the report in a few sentences.

    They cover cut answers if these keep the verdict open, quality, training seeds, a cheaper arm,
    costs, forgetting, looks at the test rows, and the evidence that the run leaves out.
    """
    found = (
        warn_about_cuts(report) if report["truncation"]["decides"] else None,
        get_quality(report),
        report["seeds"]["sentence"],
        report["alternative"],
        get_costs(report),
        get_forgetting(report),
        get_looks(report),
        get_missing(report),
    )
    return [text for text in found if text]


def count_right(ours: Scores, theirs: Scores) -> dict[str, int] | None:
    """Count the rows that each of two arms gets right and those that only one of them gets right.

    Returns:
        The counts; None if rows are not simply right or wrong.
    """
    if not (ours.binary and theirs.binary):
        return None
    a = ours.values.astype(bool)
    b = theirs.values.astype(bool)
    return {
        "right": int(a.sum()),
        "right_instead": int(b.sum()),
        "better": int((a & ~b).sum()),
        "worse": int((~a & b).sum()),
        "rows": len(a),
    }


def get_answer(report: Report) -> str:
    """Say in one sentence what to do."""
    arm = report["recommended_arm"]
    constant = shorten(report["arms"][CONSTANT_ARM]["health"]["commonest"])
    return {
        "fine-tune": f"Yes, fine-tune: use {arm}.",
        "prompt": f"No: prompting with {arm} is enough.",
        "no-model": f"No, and no model is needed: {arm} does as well without one.",
        "neither": f"No, and do not prompt either: nothing beats always answering {constant}."
        if report["min_useful_value"] is None
        else "No, and do not prompt either: nothing is both useful and better than always "
        f"answering {constant}.",
        "not-enough-evidence": _say_undecided(report, arm),
    }[report["verdict"]]


def _say_undecided(report: Report, arm: str | None) -> str:
    if report["rows"] < report["min_rows"]:
        rows = report["rows"]
        return (
            f"Not enough evidence yet: only {rows} rows were judged, and a verdict needs at least "
            f"{report['min_rows']}."
        )
    if report["truncation"]["decides"]:
        stay = f" Until then, stay with {arm}." if arm else ""
        return (
            "Not enough evidence yet: answers that prompt.max_new_tokens cut could change the "
            f"verdict.{stay}"
        )
    if arm:
        return f"Not enough evidence yet: stay with {arm} until there is more."
    return "Not enough evidence yet, and no arm was shown to be worth using."


def get_quality(report: Report) -> str:
    """Say what the decisive arms score, in numbers of requests if rows are right or wrong."""
    metric = report["primary_metric"]
    arms = report["arms"]
    ours = report["candidate"]
    theirs = report["best_prompted_arm"]
    counts = report["counts"]
    free = [arm for arm in report["model_free_arms"] if arm != CONSTANT_ARM]
    answer = shorten(arms[CONSTANT_ARM]["health"]["commonest"])
    seeds = report["seeds"]["count"]
    which = f"{ours} (the first of its {seeds} training seeds)" if seeds > 1 else ours
    if counts:
        rest = [
            f"Always answering {answer} gets "
            f"{round(arms[CONSTANT_ARM][metric]['value'] * counts['rows']):,} right"
        ]
        rest += [
            f"{arm} gets {round(arms[arm][metric]['value'] * counts['rows']):,}" for arm in free
        ]
        return (
            f"Of {counts['rows']:,} requests, {which} gets {counts['right']:,} right, against "
            f"{counts['right_instead']:,} for {theirs}, the best prompted arm "
            f"({counts['better']:,} better, {counts['worse']:,} worse). {', '.join(rest)}."
        )
    rest = [f"Always answering {answer} scores {arms[CONSTANT_ARM][metric]['value']:.3f}"]
    rest += [f"{arm} scores {arms[arm][metric]['value']:.3f}" for arm in free]
    return (
        f"On {report['rows']:,} rows, {ours} scores {arms[ours][metric]['value']:.3f} in {metric}, "
        f"against {arms[theirs][metric]['value']:.3f} for {theirs}, the best prompted arm. "
        f"{', '.join(rest)}."
    )


def get_costs(report: Report) -> str | None:
    """Say what the models cost; None if the verdict is to use no model."""
    return None if report["verdict"] in ("no-model", "neither") else report["costs"]["sentence"]


def get_forgetting(report: Report) -> str | None:
    """Say what the tuned model lost and what follows; None if the verdict rules it out."""
    if not report["forgetting"] or report["verdict"] not in ("fine-tune", "not-enough-evidence"):
        return None
    everything = report["forgetting"]["abilities"][0]
    before = everything["base"]["value"]
    after = everything["tuned"]["value"]
    kept = (
        f"The tuned model answers {after:.1%} of the general questions correctly, the base model "
        f"{before:.1%}."
    )
    if everything["difference"]["ci_high"] < 0:
        return (
            f"{kept} Use the tuned model for this task only, or train with replay (train.replay)."
        )
    return f"{kept} No loss was shown."


def get_looks(report: Report) -> str | None:
    """Say how often models have been judged on these rows; None if this is the first look."""
    return None if report["looks"]["place"] == 1 else report["looks"]["sentence"]


def get_missing(report: Report) -> str | None:
    """Say which parts of the evidence this run leaves out; None if it is complete."""
    if report["split"] != "test":
        return "This run does not include a look at the test rows."
    missing = []
    if report["seeds"]["count"] < 2:  # noqa: PLR2004
        missing.append("more training seeds")
    if len(report["tuned_arms"]) == 1 and report["candidate"] == TUNED_ARM:
        missing.append("a rival training method")
    if not report["prompt_search"]["thorough"]:
        missing.append("the full prompt search")
    if not missing:
        return None
    return f"This run leaves out {join(missing)}. Add experiment=thorough for all of the evidence."


def get_seeds(votes: Sequence[str], verdict: str, values: Sequence[float]) -> dict[str, Any]:
    """Describe how far the training seeds agree.

    Args:
        votes: The verdict of each seed alone; empty if there is only one seed.
        verdict: The verdict of all seeds together.
        values: The primary metric of the model of each seed.
    """
    agreed = sum(vote == verdict for vote in votes)
    sentence = f"{agreed} of {len(votes)} training seeds give the same verdict on their own."
    return {
        "count": len(values),
        "values": list(values),
        "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "agreed": agreed if votes else None,
        "sentence": sentence if votes else None,
    }


def say(comparison: Mapping[str, Any], confidence: float) -> str:
    """Describe a comparison, and how many rows would settle it."""
    c = comparison
    needed = c["rows_needed"]
    text = (
        f"{c['arm']} minus {c['against']}: {c['difference']:+.3f} in {c['metric']} "
        f"({confidence:.0%} interval {c['ci_low']:+.3f} to {c['ci_high']:+.3f}; at least "
        f"{c['bound_low']:+.3f}, at most {c['bound_high']:+.3f})."
    )
    if not needed:
        return text
    if needed["high"] is None:
        return (
            f"{text} Settling it takes at least {needed['low']:,} rows. Possibly no number of rows "
            "is enough, because the difference may equal the margin."
        )
    return f"{text} Between {needed['low']:,} and {needed['high']:,} rows would settle it."
