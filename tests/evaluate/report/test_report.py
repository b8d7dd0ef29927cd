"""The report of made-up numbers, with everything that a report can have and with none of it."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from omegaconf import OmegaConf

from stages.core.data.predictions import Prediction
from stages.core.data.verdict import read_verdict
from stages.core.statistics.scores import Scores
from stages.evaluate.report.intervals import SLICES
from stages.evaluate.report.page import GITHUB_LIMIT
from stages.evaluate.report.plots import (
    LABELS,
    TEMPLATE_OF,
    TEMPLATES,
    fill_template,
    fold_labels,
    get_plots,
)
from stages.evaluate.report.write import get_examples, get_headline, write_reports
from tests.conftest import ROOT, chat

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


@pytest.fixture
def bare():
    """What every report has."""
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
            "prompted_model": "smollm2",
            "config_sha256": "4" * 64,
            "git_commit": "5" * 40,
            "git_dirty": True,
            "seed": 42,
            "hardware": {"device": "CPU", "threads": 2},
            "versions": versions,
        },
    }  # fmt: skip


@pytest.fixture
def full(bare):
    """And everything that it may have."""
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
    bare["choices"] |= {
        "few_shot": few_shot,
        "constrained": {"reason": f"too many {ATTACK}", "trials": []},
    }
    line = [{"rows": float(n), **estimate(0.5 + n / 5000)} for n in range(100, 1400, 100)]
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
         "most_frequent": ATTACK, "most_frequent_count": 149}
        for model in ("base", "tuned") for system in ("template", "empty")
    ]  # fmt: skip
    forgetting = {
        "abilities": abilities,
        "sentence": "General suite of 320 items: 0.100 after tuning and 0.470 before.",
        "sheets": sheets,
        "reliability": {"standard_error": 0.0286, "halves": [0.36, 0.38]},
        "answers_sentence": f"Most frequent: {ATTACK}.",
        "remedy": "The tuned model lost 0.370 on the general suite.",
        "remedy_command": "dvc exp run -S train.replay.fraction=0.2",
    }
    return bare | {
        "remote": {"base_url": "https://api.example.org/v1", "model": ATTACK},
        "slices": [part(ATTACK, loses=True), part("any other")],
        "confusion": {"labels": labels, "arms": {"tuned": diagonal, "few_shot": diagonal}},
        "forgetting": forgetting,
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


@pytest.fixture
def write(config, workspace):
    def write_report(report):
        metrics = list(report["measures"])
        options = ["evaluate.target_loglikelihood=true"] if "perplexity" in metrics else []
        settings = config(f"evaluate.metrics=[{','.join(metrics)}]", *options)
        write_reports(
            settings,
            report,
            *answered([True] * 12 + [False] * 12, [False] * 12 + [True] * 12, {3: ATTACK}),
        )
        return Page((workspace / "reports/verdict.html").read_text())

    return write_report


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


def test_texts_of_data_and_models_stay_text(full, write):
    page = write(full)
    assert page.text.count(ATTACK) >= 12 + 1 + 1 + 1, (
        "answers, the question, a slice, the name of the remote model"
    )
    assert "img" not in {tag for tag, _ in page.tags} and not page.values("onerror")
    specs = [json.loads(script) for kind, script in page.scripts if kind == "application/json"]
    assert len(specs) == len(TEMPLATE_OF) and any(ATTACK in json.dumps(spec) for spec in specs)
    # Beyond escaping, the page's policy lets no other script run than its own two.
    policy = next(
        a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    own = [script for kind, script in page.scripts if kind == "text/javascript"]
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in own
    ]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests and len(own) == 2
    assert "'unsafe-inline'" not in policy.split("script-src")[1] and "default-src 'none'" in policy


def test_nothing_is_loaded_from_the_net(full, write):
    page = write(full)
    assert not page.values("src") and "link" not in {tag for tag, _ in page.tags}
    assert all(target.startswith("#") for target in page.values("href"))
    ids = set(page.values("id"))
    assert {target[1:] for target in page.values("href")} <= ids
    assert "url(" not in page.source.split("<style>")[1].split("</style>")[0]


def test_the_questions_come_in_the_order_of_the_lesson(full, write):
    page = write(full)
    titles = re.findall(r'<h2 id="[\w-]+">([^<]+)</h2>', page.source)
    assert titles == [
        "Use case",
        "Alternatives",
        "Costs",
        "Benefits",
        "How it was measured",
        "Lineage",
    ]
    for said in (
        "+0.160 to +0.240; margin +0.020", "62instead of 452", "Of 301 requests, tuned gets 211 right",
        "8,995 requests",
        "0.012 kWh", "hellaswag", "Bonett and Price, 2012", "Berger, 1982", "0.02 to 0.05", "case: fold",
        "folded together: label 11, label 12, label 13, label 14", "perplexity ↓", "training seed",
    ):  # fmt: skip
        assert said in page.text, said
    assert page.values("class").count("row") == 20


def test_what_the_tuned_model_answers_to_general_questions_is_said(full, write, workspace):
    page = write(full)
    for said in (
        "149 (47 %)", "lost 0.370 on the general suite. dvc exp run -S train.replay.fraction=0.2", "cover English only",
        "standard error of the loss is 0.029", "a loss of 0.360, the other half a loss of 0.380", "forgets nothing",
    ):  # fmt: skip
        assert said in page.text, said
    markdown = (workspace / "reports/verdict.md").read_text()
    assert (
        "- The tuned model lost 0.370 on the general suite. `dvc exp run -S train.replay.fraction=0.2`"
        in markdown
    )
    assert "<img" not in markdown and ATTACK not in markdown


def test_what_was_not_measured_is_left_out_or_says_how_to(bare, write, workspace):
    page = write(bare)
    assert "python -m tools.learning_curve" in page.text and "evaluate.forgetting" in page.text
    assert "Energy was not measured" in page.text
    assert {i for i in page.values("id") if i.startswith("plot-")} == {
        "plot-arms",
        "plot-differences",
        "plot-tokens",
    }
    for name in (
        "slices",
        "confusion",
        "curve",
        "forgetting",
    ):  # an output of DVC is there in every run
        assert json.loads((workspace / f"plots/{name}.json").read_text()) == []


def test_data_files_have_the_numbers_of_the_report(full, write, workspace):
    write(full)
    report = read_verdict(workspace)
    data = {
        name: json.loads((workspace / f"plots/{name}.json").read_text()) for name in TEMPLATE_OF
    }
    for name, rows in data.items():
        assert all(row.keys() == rows[0].keys() for row in rows), (
            f"{name}: DVC refuses rows with different keys"
        )
    arms = {(row["panel"], row["label"]): row["value"] for row in data["arms"]}
    assert (
        len(arms) == 16
        and arms["perplexity (lower is better)", "tuned"]
        == report["arms"]["tuned"]["perplexity"]["value"]
    )
    gaps = {(row["panel"], row["label"]): row for row in data["differences"]}
    gap = gaps["exact_match", "tuned − few_shot"]
    assert (gap["ci_low"], gap["zero"], gap["margin"]) == (
        report["comparisons"][3]["ci_low"],
        0,
        0.02,
    )
    assert gaps["perplexity (lower is better)", "tuned − few_shot"]["margin"] is None
    assert {row["arm"]: row["prompt_tokens"] for row in data["tokens"]}["few_shot"] == 452
    assert [row["kind"] for row in data["slices"]] == ["worse", "tuned"]
    assert sum(row["count"] for row in data["confusion"]) == 2 * sum(
        map(sum, report["confusion"]["arms"]["tuned"])
    )
    assert [row["value"] for row in data["curve"] if row["what"] == "measured"] == [0.6, 0.7]
    assert {row["label"] for row in data["forgetting"]} == {"all", "facts", "hellaswag (acc)"}


def test_many_slices_are_cut_to_the_lost_and_the_large_ones(bare):
    bare["slices"] = [part(f"value {n}", rows=n) for n in range(300)] + [
        part("lost", rows=1, loses=True)
    ]
    rows = get_plots(bare, ["exact_match"])["slices"]
    assert len(rows) == SLICES and rows[-1]["label"] == "lost" and rows[0]["label"] == "value 261"


@pytest.mark.parametrize("name", TEMPLATE_OF)
def test_a_template_fills_to_a_plot(name, full):
    import vl_convert

    rows = get_plots(full, ["exact_match", "perplexity"])[name]
    spec = fill_template(name, rows, "x", "y")
    assert "<DVC_METRIC" not in json.dumps(spec)
    svg = vl_convert.vegalite_to_svg(spec)
    expected = {"arms": ("tuned_long", "0.700"), "differences": ("tuned − remote", "−5.000"), "tokens": ("remote",),
                "slices": ("by label", "any other"), "confusion": ("4 other labels", "another answer"),
                "curve": ("few_shot",), "forgetting": ("facts", "−0.370")}  # fmt: skip
    for text in expected[name]:
        assert text in svg, text


def test_a_plot_of_nothing_but_zeros_has_an_axis(bare):
    for numbers in bare["arms"].values():
        numbers["exact_match"] = estimate(0.0, 0.0)
    rows = get_plots(bare, ["exact_match"])["arms"]
    assert {(row["low"], row["high"]) for row in rows} == {(0.0, 1.0)}


def test_dvc_shows_the_same_plots(full, bare, write, workspace):
    stage = OmegaConf.to_container(OmegaConf.load(ROOT / "dvc.yaml").stages.evaluate.plots)
    declared = {path: options for plot in stage for path, options in plot.items()}
    assert {path: o["template"] for path, o in declared.items()} == {
        f"plots/{n}.json": t for n, t in TEMPLATE_OF.items()
    }
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=workspace, check=True)
    shutil.copytree(TEMPLATES, workspace / ".dvc/plots")
    plots = [{path: options} for path, options in declared.items()]
    (workspace / "dvc.yaml").write_text(json.dumps({"plots": plots}))
    for report, shown in ((full, len(TEMPLATE_OF)), (bare, 3)):
        write(report)
        done = subprocess.run(
            [*dvc, "plots", "show"], cwd=workspace, capture_output=True, text=True, check=True
        )
        page = (workspace / "dvc_plots/index.html").read_text()
        assert "index.html" in done.stdout and "<DVC_METRIC" not in page
        assert page.count("vegaEmbed(") == len(TEMPLATE_OF) and page.count('"$schema"') == shown


def test_labels_beyond_the_readable_are_folded_together(full):
    labels, arms, folded = fold_labels(full["confusion"])
    assert (
        len(labels) == LABELS
        and labels[-1] == "4 other labels"
        and folded == [f"label {n}" for n in range(11, 15)]
    )
    before = full["confusion"]["arms"]["tuned"]
    after = arms["tuned"]
    assert sum(map(sum, after)) == sum(map(sum, before)) and all(
        len(row) == LABELS + 1 for row in after
    )
    assert after[0][0] == before[0][0] and after[0][-1] == before[0][-1], (
        "another answer stays apart"
    )
    few = {"labels": ["a", "b"], "arms": {"tuned": [[1, 0, 0], [0, 1, 0]]}}
    assert fold_labels(few) == (few["labels"], few["arms"], [])


@pytest.mark.parametrize(
    ("better", "worse", "shown"),
    [(15, 15, (10, 10)), (30, 3, (17, 3)), (0, 25, (0, 20)), (2, 1, (2, 1))],
)
def test_twenty_rows_side_by_side(better, worse, shown, bare):
    same = 5
    examples = get_examples(
        bare,
        *answered(
            [True] * better + [False] * worse + [True] * same,
            [False] * better + [True] * (worse + same),
        ),
    )
    assert (len(examples["better"]), len(examples["worse"])) == shown
    assert all(
        row["tuned"] == row["target"] and row["rival_score"] == 0 for row in examples["better"]
    )
    if better > 4:  # four targets: each is shown before any is shown again
        assert {row["target"] for row in examples["better"][:4]} == {"0", "1", "2", "3"}


def test_the_page_says_what_to_look_at_first(bare, write):
    bare["warnings"] = [f"few_shot gives the same answer, {ATTACK}, to 97% of the rows."]
    assert "to 97% of the rows." in write(bare).text
    assert get_headline(bare, ["exact_match"])["prompt_tokens_saved"] == pytest.approx(389.6)


def test_markdown_fits_a_comment(full, write, workspace):
    full["slices"] = [part(ATTACK[:40], rows=n) for n in range(2000)] + [part("lost", loses=True)]
    write(full)
    text = (workspace / "reports/verdict.md").read_text()
    assert len(text) <= GITHUB_LIMIT and text.rstrip().endswith("</sub>")
    assert "tuned loses on 1" in text and "lost **loses**" in text and "1941 more parts" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables[0].startswith("| arm | exact_match | perplexity ↓") and "<script>" not in text
    assert all("0.600" in line and line.count("|") == 6 for line in tables if "label" in line), (
        "no cell ends another"
    )
    assert "@octocat" not in text


def test_markdown_is_cut_however_long_names_are(bare, write, workspace):
    bare["slices"] = [part("*" * 900, rows=n) for n in range(100)]
    write(bare)
    text = (workspace / "reports/verdict.md").read_text()
    assert len(text) <= GITHUB_LIMIT and text.rstrip().endswith("</sub>") and "more parts" in text


def test_the_search_of_prompts_is_told_with_its_effort_and_its_spread(full, write):
    said = " ".join(write(full).text.split())
    assert "few_shot tried 2 of 6 candidates and made its choice on 48 rows. It used 9,000" in said
    assert "of its budget of 12,000 tokens" in said
    assert (
        "exact_match ranges from 0.100 to 0.400 with the choice and order of the 2 examples (3 cand"
        in said
    )
    assert "few_shot (chosen)" in said and "seed 42, balanced, reversed" in said
    assert f"The arm constrained was left out: too many {ATTACK}." in said
    assert "no room for all examples on 7 test rows, so 11 examples were left out" in said


def test_the_prompt_that_is_shown_is_that_of_the_best_prompted_arm(bare, write):
    bare["choices"]["few_shot"] |= {"instruction": "Name the entities.", "shots": 5}
    text = write(bare).text
    assert (
        "few_shot, the best prompted arm, with 5 examples" in text and "Name the entities." in text
    )


def test_a_base_model_that_was_quantized_is_named_so(bare, write, workspace):
    assert "quantized" not in write(bare).text
    bare["lineage"]["base_model"]["quantization"] = "Q4_1"
    assert write(bare).text.count("dequantized from Q4_1") == 2
    assert "weights dequantized from Q4_1" in (workspace / "reports/verdict.md").read_text()


def test_every_class_of_the_style_sheet_is_used_by_a_template():
    folder = ROOT / "stages" / "evaluate" / "report" / "templates"
    style = (folder / "page.css").read_text()
    pages = "".join(path.read_text() for path in folder.iterdir() if path.suffix in (".j2", ".js"))
    classes = set(re.findall(r"\.([a-z][\w-]*)(?=[^{}]*\{)", style))
    unused = {name for name in classes if not re.search(rf"\b{name}\b", pages)}
    assert "facts" in classes and unused == {"vega-embed"}  # which the library sets
