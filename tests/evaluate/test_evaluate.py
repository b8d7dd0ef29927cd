import json

import pytest

from stages.baseline.__main__ import main as baseline
from stages.core.data.predictions import EXTRA, read_predictions
from stages.core.data.verdict import read_verdict
from stages.evaluate.__main__ import main as evaluate
from stages.register.__main__ import main as register
from stages.train.__main__ import main as train
from tests.conftest import TINY, compose_config

QUICK = ("prompt.shots=[1,2]", "prompt.search.selection_rows=4", "tracking=disabled")
EVERYTHING = (
    "evaluate.extra_arms=[tuned_long]",
    "evaluate.metrics=[exact_match,accuracy,perplexity]",
    "evaluate.target_loglikelihood=true",
    "energy=codecarbon",
)
UNTRAINED = ("train.args.learning_rate=0", "train.args.num_train_epochs=1")


@pytest.fixture
def workspace_of_a_model_that_learned_nothing(prepared, workspace):
    options = [*TINY, *QUICK, *UNTRAINED, *EVERYTHING, "prompt.system_prompt=Say it."]
    for stage in (baseline, train, evaluate):
        stage(compose_config(*options))
    return workspace


def test_a_model_that_learned_nothing_is_not_recommended(workspace_of_a_model_that_learned_nothing):
    folder = workspace_of_a_model_that_learned_nothing
    report = read_verdict(folder)
    assert report["verdict"] != "fine-tune" and report["recommended_arm"] != "tuned"
    # The same weights forgot nothing, and asked with the same words they give the same answers.
    assert report["forgetting"]["perplexity_ratio"]["value"] == pytest.approx(1, abs=1e-3)
    assert report["forgetting"]["abilities"][0]["difference"]["value"] == 0
    texts = [
        [json.loads(line)["text"] for line in path.open()]
        for path in (folder / EXTRA / "tuned_long.jsonl", folder / "predictions/zero_shot.jsonl")
    ]
    assert texts[0] == texts[1]
    # Everything that the design and the issues list is there, for a machine and for people.
    assert set(report["arms"]) == {
        "constant", "nearest", "zero_shot", "few_shot", "retrieval", "tuned", "tuned_long"
    }  # fmt: skip
    assert {c["arm"] for c in report["comparisons"] if c["against"] == "constant"} >= {
        "nearest",
        "few_shot",
        "tuned",
    }
    assert report["answer"].startswith("Not enough evidence yet") and report["seeds"]["count"] == 1
    assert any(
        "no better in exact_match than always giving" in warning for warning in report["warnings"]
    )
    assert (
        report["choices"]["few_shot"]["rows"] == 4
        and len(report["choices"]["few_shot"]["trials"]) == 3
    )
    # Its answers are as long as they may be.
    cut = report["truncation"]["arms"]
    assert cut["zero_shot"]["cut"] == report["rows"] and not report["truncation"]["decides"]
    assert any(f"{report['rows']} of zero_shot" in warning for warning in report["warnings"])
    # Weights that did not change find the targets as likely as before, after the same prompt.
    perplexity = {
        arm: numbers["perplexity"]["value"]
        for arm, numbers in report["arms"].items()
        if "perplexity" in numbers
    }
    assert perplexity["tuned_long"] == pytest.approx(perplexity["zero_shot"], rel=1e-3)
    assert perplexity["few_shot"] != pytest.approx(perplexity["zero_shot"], rel=1e-3)
    assert (
        report["measures"]["perplexity"]["lower_is_better"]
        and not report["measures"]["accuracy"]["lower_is_better"]
    )
    assert report["confusion"]["labels"] == sorted(f"number {n}" for n in range(30, 40))
    energy = report["costs"]["energy"]
    assert (
        energy["country"] == "USA"
        and energy["training_kwh"] > 0
        and set(energy["request_kwh"]) == set(report["arms"]) - {"constant", "nearest"}
    )
    assert report["curve"] is None and report["harness"] == [] and report["remote"] is None
    page = (folder / "reports/verdict.html").read_text()
    assert (
        "built-in method" not in page
        and "Does it still do other things?" in page
        and "tuned_long" in page
    )
    assert "default-src 'none'" in page  # whatever a model wrote, nothing is loaded from anywhere
    assert "General suite" in (folder / "reports/verdict.md").read_text()
    # The look is counted, in the report and in the ledger.
    (path,) = (folder / "data/test_looks").glob("*/001-exact_match-*.json")
    entry = json.loads(path.read_text())
    assert report["split"] == "test" and report["looks"]["place"] == report["looks"]["count"] == 1
    assert entry["model_sha256"] == report["lineage"]["model_sha256"]
    assert entry["value"] == report["arms"]["tuned"]["exact_match"]["value"]
    assert json.loads((folder / "metrics/evaluate.json").read_text())["test_looks"] == 1


def test_a_sweep_is_judged_on_validation_rows_and_leaves_the_test_rows_unseen(prepared, workspace):
    (workspace / "data/prepared/test.jsonl").write_bytes(b"\n")  # nothing there to look at
    settings = compose_config(
        "experiment=sweep", *TINY, *QUICK, "evaluate.forgetting=false", "register=one-task"
    )
    for stage in (baseline, train, evaluate, register):
        stage(settings)
    report = read_verdict(workspace)
    assert report["split"] == "validation" and report["rows"] == len(prepared["validation"])
    assert report["looks"]["place"] is None and "optimistic" in report["looks"]["sentence"]
    assert not (workspace / "data/test_looks").exists()
    ids = [record.id for record in prepared["validation"]]
    for arm in ("zero_shot", "tuned"):
        assert [answer.id for answer in read_predictions(arm)] == ids
    outcome = json.loads((workspace / "metrics/register.json").read_text())
    assert outcome["registered"] is False
    look = outcome["conditions"][0]
    assert look["name"] == "look" and not look["passed"]
    assert look["sentence"].startswith("the model was judged on validation rows")
    assert "split=test" in look["sentence"]
