"""A report of made-up numbers, with everything that a report can have or with none of it."""

from html.parser import HTMLParser

import numpy as np

from stages.core.data.predictions import Prediction
from stages.core.statistics.scores import Scores
from stages.evaluate.report.plots import LABELS
from tests.conftest import chat

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>|`@octocat`"
ARMS = {
    "constant": 0.3,
    "nearest": 0.2,
    "zero_shot": 0.1,
    "few_shot": 0.5,
    "retrieval": 0.45,
    "tuned": 0.7,
}
PROMPTED = ("zero_shot", "few_shot", "retrieval")
HEALTH = {
    "commonest": "none",
    "commonest_share": 0.4,
    "empty": 0.0,
    "malformed": 0.1,
    "cut": 0.02,
    "content": 0.5,
}


def estimate(value, half=0.05):
    return {"value": value, "ci_low": value - half, "ci_high": value + half}


def comparison(against, metric, difference):
    interval = {"ci_low": difference - 0.04, "ci_high": difference + 0.04}
    bounds = {
        "bound_low": difference - 0.03,
        "bound_high": difference + 0.03,
        "p_value": 1e-12,
        "rows_needed": None,
    }
    return {
        "arm": "tuned", "against": against, "metric": metric, "difference": difference, **interval, **bounds
    }  # fmt: skip


def part(value, *, rows=20, loses=False):
    gap = estimate(-0.2 if loses else 0.1)
    return {
        "by": "label", "value": value, "rows": rows, "ours": 0.6, "theirs": 0.5, "difference": gap, "loses": loses
    }  # fmt: skip


def measure(description, *, lower_is_better=False, **options):
    return {"description": description, "options": options, "lower_is_better": lower_is_better}


def costs(requests=(None, None, None), price=0.0):
    """As `stages.evaluate.costs.costs.Costs`, with the same numbers in all scenarios."""
    value, low, high = requests
    found = "after 8,995 requests (6,091 to 20,100) compared with few_shot"
    reason = f"Break-even: {found if value else 'never; a tuned request is not cheaper than a few_shot request'}"
    others = [arm for arm in ARMS if arm != "tuned"]
    payback = {
        "saving": {"value": 1e-6, "low": 1e-7, "high": 1e-5 if value else -1.0},
        "requests": value, "low": low, "high": high,
        "requests_without_labelling": value, "sentence": reason, "cheaper": bool(value), "reason": f"{reason}.",
    }  # fmt: skip
    scenario = {
        "formula": "Seconds by their price.", "training": 0.019, "per_request": dict.fromkeys(ARMS, 1e-5),
        "per_right_answer": dict.fromkeys(ARMS, 2e-5 if value else None), "payback": dict.fromkeys(others, payback),
        "worth": None,
    }  # fmt: skip
    return {
        "currency": "USD", "candidate": "tuned", "alternative": "few_shot", "scenario": "batches",
        "scenarios": dict.fromkeys(("batches", "server", "server_prefix_cache", "tokens"), scenario),
        "training": 0.019, "labelling": price, "evaluating": 0.027, "per_request": scenario["per_request"],
        "break_even_requests": value, "break_even_low": low, "break_even_high": high, "break_even_reason": reason,
        "cheaper": dict.fromkeys(others, bool(value)), "cheaper_reasons": dict.fromkeys(others, f"{reason}."),
        "worth": None, "sentence": f"In the cost scenario batches, training costs 0.019 USD. {reason}.", "energy": None,
    }  # fmt: skip


def make_report():
    """Make a report with what every report has."""
    speed = {"prompt_tokens": 62.4, "completion_tokens": 5.0, "seconds_per_request": 0.06}
    arms = {
        arm: {"exact_match": estimate(value), **speed, "health": HEALTH}
        for arm, value in ARMS.items()
    }
    arms["few_shot"]["prompt_tokens"] = 452.0
    versions = {"python": "3.11", "torch": "2.13"}
    return {
        "verdict": "fine-tune",
        "recommended_arm": "tuned",
        "answer": "Yes, fine-tune: use tuned.",
        "summary": ["Of 301 requests, tuned gets 211 right."],
        "reasons": ["tuned beats every prompted arm and every model-free arm by more than 0.020."],
        "warnings": [],
        "truncation": {"decides": False, "arms": {}},
        "candidate": "tuned",
        "model_free_arms": ["constant", "nearest"],
        "prompted_arms": ["zero_shot", "few_shot", "retrieval"],
        "tuned_arms": ["tuned"],
        "split": "test",
        "looks": {
            "place": 1, "count": 1, "confidence": 0.95,
            "sentence": "This is the first model judged on these test rows.",
        },
        "groups": 301,
        "min_useful_value": None,
        "min_rows": 50,
        "smallest_gain": 0.08,
        "counts": {"right": 211, "right_instead": 150, "better": 70, "worse": 9, "rows": 301},
        "gain": {"against": "few_shot", "format": 0.15, "content": 0.05},
        "seeds": {"count": 1, "values": [0.7], "spread": None, "agreed": None, "sentence": None},
        "prompt_search": {"thorough": False},
        "primary_metric": "exact_match",
        "best_prompted_arm": "few_shot",
        "rows": 301,
        "confidence": 0.95,
        "bound_confidence": 0.95,
        "margin": 0.02,
        "arms": arms,
        "choices": {arm: {"instruction": None, "shots": 0, "rows": 0, "trials": []} for arm in PROMPTED},
        "comparisons": [comparison(arm, "exact_match", 0.7 - ARMS[arm]) for arm in ARMS if arm != "tuned"],
        "measures": {"exact_match": measure("Whether the answer is the target.", case="fold")},
        "remote": None,
        "slices": [],
        "confusion": None,
        "forgetting": None,
        "harness": [],
        "curve": None,
        "costs": costs(),
        "training": {
            "seconds": 171.0, "tokens": 102638, "steps": 88, "trained_parameters": 4884480,
            "eval_loss_before_training": 3.3, "eval_loss": 0.17,
        },
        "lineage": {
            "data": "finance-ner",
            "data_sha256": {"train": "1" * 64, "test": "2" * 64},
            "base_model": {"name": "smollm2", "sha256": "3" * 64, "revision": None},
            "model_sha256": "6" * 64,
            "dtype": "bfloat16",
            "prompted_model": "smollm2",
            "config_sha256": "4" * 64,
            "git_commit": "5" * 40,
            "git_dirty": True,
            "seed": 42,
            "hardware": {"device": "CPU", "threads": 2},
            "versions": versions,
        },
    }  # fmt: skip


def make_full_report():
    """Make a report with everything that a report may have."""
    bare = make_report()
    labels = [f"label {n}" for n in range(LABELS + 3)]
    diagonal = [
        [30 - n if n == m else 1 for m in range(len(labels) + 1)] for n in range(len(labels))
    ]
    bare["arms"] |= {
        "remote": {**bare["arms"]["few_shot"], "exact_match": estimate(0.52)},
        "tuned_long": {**bare["arms"]["tuned"], "exact_match": estimate(0.6)},
    }
    for numbers in bare["arms"].values():
        numbers["perplexity"] = estimate(40 * numbers["exact_match"]["value"], 2.0)
    bare["comparisons"] += [
        comparison("remote", "exact_match", 0.18),
        comparison("few_shot", "perplexity", -5.0),
    ]
    bare["measures"]["perplexity"] = measure(
        "How surprising the targets are.", lower_is_better=True
    )
    bare["choices"] |= make_choices()
    line = [{"rows": float(n), **estimate(0.5 + n / 5000)} for n in range(100, 1400, 100)]
    return bare | {
        "remote": {"base_url": "https://api.example.org/v1", "model": ATTACK},
        "slices": [part(ATTACK, loses=True), part("any other")],
        "confusion": {"labels": labels, "arms": {"tuned": diagonal, "few_shot": diagonal}},
        "forgetting": make_forgetting(),
        "harness": [
            {"task": "hellaswag", "metric": "acc", "items": 200, "base": estimate(0.4), "tuned": estimate(0.38),
             "difference": estimate(-0.02)}
        ],
        "curve": {
            "points": [{"train_fraction": 0.5, "rows": 350, **estimate(0.6)},
                       {"train_fraction": 1.0, "rows": 700, **estimate(0.7)}],
            "fit": line,
            "doubling": {"low": 0.02, "high": 0.05},
            "sentence": "Doubling the rows should add about 0.03.",
        },
        "costs": costs([8995, 6091, 20100], price=0.01) | {
            "energy": {"country": "USA", "training_kwh": 0.0123, "training_co2_kg": 0.0045,
                       "request_kwh": {"tuned": 1e-6}},
            "worth": {"sentence": "If a correct answer is worth 1 USD, tuned is worth most."},
        },
    }  # fmt: skip


def make_choices():
    """Make what the search of prompts chose, with its effort."""
    how = {
        "instruction": ATTACK,
        "examples": "drawn",
        "draw": 42,
        "order": "reversed",
        "balanced": True,
    }
    trials = [
        {**how, "shots": n, "rows": 48, "score": 0.1 * n, "prompt_tokens": 10.0 * n} for n in (1, 2)
    ]
    spread = {
        "order": None,
        "examples": {"shots": 2, "rows": 48, "min": 0.1, "max": 0.4, "candidates": 3},
    }
    effort = {
        "candidates": 6,
        "tokens": 9_000.0,
        "budget": 12_000.0,
        "seconds": 4.0,
        "spread": spread,
    }
    left_out = {"rows": 7, "shots": 11}
    few_shot = {**how, "shots": 2, "rows": 48, "trials": trials, **effort, "left_out": left_out}
    return {
        "few_shot": few_shot,
        "constrained": {"reason": f"too many {ATTACK}", "trials": []},
    }


def make_forgetting():
    """Make what the model forgot of the general suite."""
    abilities = [
        {
            "category": name,
            "items": 320,
            "base": estimate(0.47),
            "tuned": estimate(0.1),
            "difference": estimate(-0.37),
        }
        for name in ("all", "facts")
    ]
    sheets = [
        {"model": model, "system": system, "items": 320, "right": 32, "in_task_format": 200, "wrong": 88,
         "empty": 3,
         "most_frequent": ATTACK, "most_frequent_count": 149}
        for model in ("base", "tuned") for system in ("template", "empty")
    ]  # fmt: skip
    return {
        "abilities": abilities,
        "sentence": "General suite of 320 items: 0.100 after tuning and 0.470 before.",
        "sheets": sheets,
        "reliability": {"standard_error": 0.0286, "halves": [0.36, 0.38]},
        "answers_sentence": f"Most frequent: {ATTACK}.",
        "remedy": "The tuned model lost 0.370 on the general suite.",
        "remedy_command": "dvc exp run -S train.replay.fraction=0.2",
    }


def answered(right_tuned, right_rival, questions=None):
    """Rows, answers and scores of two arms that are right or wrong on each row."""
    targets = [f"{i % 4}" for i in range(len(right_tuned))]
    records = [
        chat((questions or {}).get(i, f"What is {i}?"), target) for i, target in enumerate(targets)
    ]
    predictions = {}
    scores = {}
    for arm, right in (("tuned", right_tuned), ("few_shot", right_rival)):
        texts = [target if good else ATTACK for target, good in zip(targets, right, strict=True)]
        predictions[arm] = [
            Prediction(r.id, arm, t, 1, 1, 0.1) for r, t in zip(records, texts, strict=True)
        ]
        scores[arm] = {"exact_match": Scores(np.array([[float(good), 1.0] for good in right]))}
    return records, predictions, scores


class Page(HTMLParser):
    """The tags of a page, its scripts and its text."""

    def __init__(self, text):
        super().__init__()
        self.source = text
        self.tags = []
        self.scripts = []
        self.text = ""
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type", "text/javascript"), ""))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            kind, before = self.scripts[-1]
            self.scripts[-1] = kind, before + data
        elif self._inside != "style":
            self.text += data

    def values(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]
