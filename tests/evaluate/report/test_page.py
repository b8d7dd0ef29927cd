"""The page of the report."""

import base64
import hashlib
import json
import re

import pytest

from stages.core.errors import UserError
from stages.evaluate.report import page
from stages.evaluate.report.plots import (
    TEMPLATE_OF,
)
from stages.evaluate.report.write import get_headline
from tests.conftest import ROOT
from tests.evaluate.report.made_up import ATTACK


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


def test_the_page_says_what_to_look_at_first(bare, write):
    bare["warnings"] = [f"few_shot gives the same answer, {ATTACK}, to 97% of the rows."]
    assert "to 97% of the rows." in write(bare).text
    assert get_headline(bare, ["exact_match"])["prompt_tokens_saved"] == pytest.approx(389.6)


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


def test_the_bundle_of_scripts_is_made_once_for_all_reports_and_needs_no_cache(monkeypatch):
    made = []
    monkeypatch.setattr(page, "_bundle", lambda: made.append(1) or "bundled")
    monkeypatch.setattr(page, "version", lambda name: "0.0.0")
    read = page._vega.__wrapped__
    assert read() == read() == "bundled"
    assert len(made) == 1

    def refuse(*args):
        raise UserError("the cache cannot be written")

    monkeypatch.setattr(page, "cached_folder", refuse)
    assert read() == "bundled"
