"""The first screen: quality, costs and forgetting joined to one recommendation, in sentences for a manager."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.core.config.arms import CONSTANT_ARM, TUNED_ARM
from stages.core.statistics.scores import Scores
from stages.evaluate.analysis.health import join, shorten

Report = Mapping[str, Any]


def get_summary(report: Report) -> list[str]:
    """Quality, a cheaper arm, costs, forgetting, the look, and what the run has not had: a sentence or two each."""
    found = (
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
    """How many rows two arms have right, and on how many only one has; None where rows are not right or wrong."""
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
    """What to do, in one sentence."""
    arm = report["recommended_arm"]
    constant = shorten(report["arms"][CONSTANT_ARM]["health"]["commonest"])
    return {
        "fine-tune": f"Yes, fine-tune: use {arm}.",
        "prompt": f"No: prompting with {arm} is enough.",
        "no-model": f"No: no model is needed, {arm} does as well without one.",
        "neither": f"No, and no prompt either: nothing beats always answering {constant}."
        if report["useful"] is None
        else f"No, and no prompt either: nothing is both useful and better than always answering {constant}.",
        "not-enough-evidence": _say_undecided(report, arm),
    }[report["verdict"]]


def _say_undecided(report: Report, arm: str | None) -> str:
    if report["rows"] < report["min_rows"]:
        rows = report["rows"]
        return f"Not enough evidence yet: {rows} rows were judged, and below {report['min_rows']} nothing is decided."
    if arm:
        return f"Not enough evidence yet: stay with {arm} until there is more."
    return "Not enough evidence yet, and no arm has shown that it is worth using."


def get_quality(report: Report) -> str:
    """What the decisive arms score, in counts of requests where rows are right or wrong."""
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
            f"always answering {answer} gets {round(arms[CONSTANT_ARM][metric]['value'] * counts['rows']):,}"
        ]
        rest += [f"{arm} {round(arms[arm][metric]['value'] * counts['rows']):,}" for arm in free]
        return (
            f"Of {counts['rows']:,} requests {counts['right']:,} come out right with {which} instead of "
            f"{counts['right_instead']:,} with {theirs}, the best prompt: {counts['better']:,} better, "
            f"{counts['worse']:,} worse; {', '.join(rest)}."
        )
    rest = [f"always answering {answer} {arms[CONSTANT_ARM][metric]['value']:.3f}"]
    rest += [f"{arm} {arms[arm][metric]['value']:.3f}" for arm in free]
    return (
        f"On {report['rows']:,} rows {ours} has {arms[ours][metric]['value']:.3f} in {metric} and {theirs}, the best "
        f"prompt, {arms[theirs][metric]['value']:.3f}; {', '.join(rest)}."
    )


def get_costs(report: Report) -> str | None:
    """What the models cost; None where the answer is to use none."""
    return None if report["verdict"] in ("no-model", "neither") else report["costs"]["sentence"]


def get_forgetting(report: Report) -> str | None:
    """What the tuned model lost, and what follows; None where it is not to be used."""
    if not report["forgetting"] or report["verdict"] not in ("fine-tune", "not-enough-evidence"):
        return None
    everything = report["forgetting"]["abilities"][0]
    before = everything["base"]["value"]
    after = everything["tuned"]["value"]
    kept = f"Of general questions the tuned model answers {after:.1%}, the base model {before:.1%}"
    if everything["difference"]["ci_high"] < 0:
        return f"{kept}: use it for this task alone, or train with replay (train.replay)."
    return f"{kept}: no loss was shown."


def get_looks(report: Report) -> str | None:
    """How often models have been judged on these rows, where this is not the first look."""
    return None if report["looks"]["place"] == 1 else report["looks"]["sentence"]


def get_missing(report: Report) -> str | None:
    """Which parts of the evidence this run has not had."""
    if report["split"] != "test":
        return "This run has not had a look at the test rows."
    missing = []
    if report["seeds"]["count"] < 2:  # noqa: PLR2004
        missing.append("further training seeds")
    if len(report["tuned_arms"]) == 1 and report["candidate"] == TUNED_ARM:
        missing.append("a rival way of training")
    if not report["prompt_search"]["thorough"]:
        missing.append("the whole search of prompts")
    if not missing:
        return None
    return f"This run has not had {join(missing)} (experiment=thorough)."


def get_seeds(votes: Sequence[str], verdict: str, values: Sequence[float]) -> dict[str, Any]:
    """What the training seeds agree on.

    Args:
        votes: the verdict that each seed alone would have had; empty with one seed.
        verdict: of all together.
        values: the primary metric of each seed's model.
    """
    agreed = sum(vote == verdict for vote in votes)
    sentence = f"{agreed} of {len(votes)} training seeds alone would have had the same verdict."
    return {
        "count": len(values),
        "values": list(values),
        "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "agreed": agreed if votes else None,
        "sentence": sentence if votes else None,
    }


def say(comparison: Mapping[str, Any], confidence: float) -> str:
    """A comparison in one sentence, with what more rows would tell."""
    c = comparison
    needed = c["rows_needed"]
    text = (
        f"{c['arm']} minus {c['against']}: {c['difference']:+.3f} in {c['metric']} ({confidence:.0%} interval "
        f"{c['ci_low']:+.3f} to {c['ci_high']:+.3f}; at least {c['bound_low']:+.3f}, at most {c['bound_high']:+.3f})."
    )
    if not needed:
        return text
    if needed["high"] is None:
        return f"{text} At least {needed['low']:,} rows would settle it; none might, for it is about the margin."
    return f"{text} Between {needed['low']:,} and {needed['high']:,} rows would settle it."
