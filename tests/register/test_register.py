import math
import os
from pathlib import Path

import pytest

from stages.core.config.register import Gate
from stages.core.config.schema import parse
from stages.core.data.verdict import read_verdict, write_verdict
from stages.core.environment.lineage import config_sha256
from stages.core.models.base_models import ModelFiles
from stages.core.models.candidates import get_candidate
from stages.core.models.loading import get_tokenizer
from stages.core.storage import locks
from stages.core.storage.locks import one_at_a_time
from stages.register.__main__ import main as register
from stages.register.condition import Condition
from stages.register.gate import check_gate
from stages.register.registration import Outcome
from stages.register.review import render_review
from stages.register.round_trip import load_candidate
from tests.conftest import TINY, compose_config
from tests.register.conftest import OPEN, THINKING, outcome, said

REPORT = {
    "verdict": "fine-tune",
    "recommended_arm": "tuned",
    "primary_metric": "exact_match",
    "forgetting": None,
}
GATE = Gate(
    verdict="fine-tune",
    min_primary_metric=0.5,
    purpose="one-task",
    max_forgetting=0.1,
    require_beating_champion=True,
    max_cut_fraction=0.1,
    allowed_licenses=["MIT"],
    accept_unknown_licenses=[],
)


def suite(base, tuned, *, half=0.02):
    """The report's part on forgetting."""
    lost = {"value": tuned - base, "ci_low": tuned - base - half, "ci_high": tuned - base + half}
    return {"abilities": [{"base": {"value": base}, "tuned": {"value": tuned}, "difference": lost}]}


INCOMPLETE = [
    {},
    {"abilities": []},
    suite(0.463, math.nan),
    suite(0.463, 0.45, half=math.inf),
    *(
        {"abilities": [{**suite(0.4, 0.4)["abilities"][0], "difference": gap}]}
        for gap in ({}, {"value": 0.0, "ci_low": None}, {"value": None, "ci_low": 0.0})
    ),
]
"""Parts on forgetting in which a number is missing. JSON writes NaN and infinity as null."""


@pytest.mark.parametrize(
    ("changed", "passed"),
    [
        ({}, [True, True, True]),
        ({"min_primary_metric": 0.8}, [True, False, True]),
        ({"verdict": "prompt"}, [False, True, True]),
        ({"verdict": "no-model"}, [False, True, True]),
        ({"verdict": "neither"}, [False, True, True]),
        ({"verdict": None}, [True, True]),
    ],
)
def test_the_gate(changed, passed):
    gate = GATE.model_copy(update=changed)
    assert [condition.passed for condition in check_gate(gate, REPORT, "tuned", [0.7])] == passed


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [0.7, math.nan]])
def test_a_value_that_is_no_number_was_not_measured(values):
    found = check_gate(GATE, REPORT, "tuned", values)[1]
    assert not found.passed and "exact_match has no value, so it was not measured" in found.sentence


def test_the_model_that_is_registered_must_reach_the_minimum_and_so_must_the_mean():
    passed = {
        values: check_gate(GATE, REPORT, "tuned", values)[1]
        for values in ((0.5, 0.6), (0.4, 0.9), (0.6, 0.3))
    }
    assert [condition.passed for condition in passed.values()] == [True, False, False]
    assert "0.500 (the mean of its 2 training seeds is 0.550)" in passed[0.5, 0.6].sentence


def test_the_verdict_must_recommend_the_model():
    found = check_gate(GATE, REPORT | {"recommended_arm": "few_shot"}, "tuned", [0.7])[0]
    assert not found.passed and "it recommends few_shot, not tuned" in found.sentence


@pytest.mark.parametrize(
    ("forgetting", "passed"),
    [
        (suite(0.463, 0.45), True),
        (suite(0.463, 0.48), True),
        (suite(0.463, 0.384), True),  # 0.079 lost, 0.099 at worst
        (suite(0.463, 0.38), False),
        (suite(0.463, 0.45, half=0.2), False),  # too few items to know
        (suite(0.463, 0.003), False),
        (None, False),  # not measured is not passed
        *((without, False) for without in INCOMPLETE),
    ],
)
def test_an_assistant_must_not_have_forgotten_and_a_one_task_model_says_what_it_forgot(
    forgetting, passed
):
    assistant = check_gate(
        GATE.model_copy(update={"purpose": "assistant"}),
        REPORT | {"forgetting": forgetting},
        "tuned",
        [0.7],
    )[-1]
    assert assistant.passed is passed
    assert ("-S register.gate.purpose=one-task" in assistant.sentence) is not passed
    one_task = check_gate(GATE, REPORT | {"forgetting": forgetting}, "tuned", [0.7])[-1]
    assert one_task.passed and one_task.sentence.startswith("a one-task model: ")
    if forgetting is None or forgetting in INCOMPLETE:
        assert "forgetting was not measured" in one_task.sentence
    else:
        tuned = forgetting["abilities"][0]["tuned"]["value"]
        assert (
            f"it scores {tuned:.3f} on the general suite, the base model 0.463" in one_task.sentence
        )


def test_the_page_of_the_gate_has_the_numbers_and_escapes_every_text():
    found = Condition("look", False, "<script>alert(1)</script>", -0.25, float("nan"), 3)
    outcome = Outcome(None, "the gate is closed", [found])
    page = render_review(
        get_candidate(parse(compose_config(*TINY)), "tuned"),
        {"lineage": {"data": "<b>"}, "verdict": "prompt"},
        outcome,
    )
    assert "the gate is closed by 1 of 1 conditions." in page
    assert "<script" not in page and "<b>" not in page
    for number in ("-0.25", "nan", ">3<"):
        assert number in page


def test_a_closed_gate_is_an_answer_and_registers_nothing(evaluated, workspace):
    import mlflow

    register(compose_config(*TINY, *THINKING))
    assert outcome()["registered"] is False and outcome()["version"] is None
    assert any(reason.startswith("failed: verdict") for reason in said())
    assert "**failed**" in Path("reports/model_card.md").read_text()
    review = Path("reports/gate.html").read_text()
    assert "the gate is closed by " in review
    assert review.index(">failed<") < review.index(">passed<")
    assert (
        mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}").search_registered_models() == []
    )


def test_an_assistant_that_forgot_or_was_not_asked_stays_out(evaluated):
    write_verdict(read_verdict() | {"forgetting": None})
    register(compose_config(*TINY, *OPEN, "register=gated"))
    assert outcome()["registered"] is False
    assert "failed: an assistant: forgetting was not measured" in "".join(said())


def test_an_open_gate_registers_once_with_its_lineage(evaluated, workspace):
    import mlflow

    register(compose_config(*TINY, *OPEN))
    assert "alias champion, a one-task model: it scores 0.0" in outcome()["outcome"]
    register(compose_config(*TINY, *OPEN))
    assert outcome()["registered"] is True and outcome()["version"] == "1"
    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    assert len(client.search_model_versions("name='tuneproof-chat-jsonl'")) == 1
    version = client.get_model_version_by_alias("tuneproof-chat-jsonl", "champion")
    report = read_verdict()
    assert version.tags["tuneproof.test_sha256"] == report["lineage"]["data_sha256"]["test"]
    assert version.tags["tuneproof.config_sha256"] == config_sha256(
        parse(compose_config(*TINY, *OPEN))
    )
    assert {
        "tuneproof.git_commit",
        "tuneproof.chat_template_sha256",
        "tuneproof.base_model_sha256",
    } <= set(version.tags)
    assert (
        "## The gate" in version.description
        and "**Purpose:** a one-task model: " in version.description
    )
    assert "a one-task model: it scores 0.0" in version.tags["tuneproof.purpose"]
    assert version.tags["tuneproof.looks"] == "This is the first model judged on these test rows."
    model = client.get_logged_model(version.model_id or version.source.removeprefix("models:/"))
    assert {metric.dataset_digest for metric in model.metrics} == {
        report["lineage"]["data_sha256"]["test"][:32]
    }
    loaded = mlflow.transformers.load_model(version.source, return_type="components")
    asked = [{"role": "user", "content": "Say 7."}]
    for arguments in ({}, {"enable_thinking": True}):  # a server may pass arguments of its own
        text = loaded["tokenizer"].apply_chat_template(
            asked, tokenize=False, add_generation_prompt=True, **arguments
        )
        assert text.endswith("Say 7.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_whoever_serves_the_model_ends_its_answers_where_the_template_ends_a_turn(evaluated):
    saved = get_tokenizer(ModelFiles("models/tuned", None, None))
    saved.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    saved.chat_template = saved.chat_template.replace("<|im_end|>", "<|im_start|>")
    saved.save_pretrained("models/tuned")
    candidate = get_candidate(parse(compose_config(*TINY, *OPEN)), "tuned")
    model, tokenizer = load_candidate(candidate, "float32")
    ends = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert set(model.generation_config.eos_token_id) == set(ends)


def test_a_model_is_registered_in_the_type_in_which_it_was_measured(evaluated):
    import mlflow

    report = read_verdict()
    assert report["lineage"]["dtype"] == "float32"
    # As if model.dtype=auto had meant that where the model was measured.
    report["lineage"]["dtype"] = "bfloat16"
    write_verdict(report)
    register(compose_config(*TINY, *OPEN))
    [version] = mlflow.MlflowClient().search_model_versions()
    loaded = mlflow.transformers.load_model(version.source, return_type="components")
    assert str(loaded["model"].dtype) == "torch.bfloat16"


def test_a_model_that_comes_back_changed_is_not_registered(evaluated, monkeypatch):
    import mlflow
    import torch

    honest = mlflow.transformers.load_model

    def broken(*args, **kwargs):
        loaded = honest(*args, **kwargs)
        with torch.no_grad():
            loaded["model"].lm_head.weight[0] += 1
        return loaded

    monkeypatch.setattr(mlflow.transformers, "load_model", broken)
    register(compose_config(*TINY, *OPEN))
    assert outcome()["registered"] is False and outcome()["outcome"] == "the gate is closed"
    found = outcome()["conditions"][-1]
    assert (found["name"], found["passed"], found["limit"]) == ("round_trip", False, 0.0)
    assert found["value"] > 0 and "has different logits after loading" in found["sentence"]
    client = mlflow.MlflowClient()
    assert client.search_registered_models() == []
    experiment = client.get_experiment_by_name("tuneproof").experiment_id
    assert client.search_logged_models([experiment]) == []


def test_a_registry_that_is_away_is_not_an_error(evaluated, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    register(compose_config(*TINY, *OPEN, "tracking.timeout=1"))
    assert outcome()["registered"] is False and "dvc repro --force" in outcome()["outcome"]
    assert "because MLflow at http://127.0.0.1:9 does not answer" in outcome()["outcome"]


def test_tracking_that_is_disabled_is_said(evaluated):
    register(compose_config(*TINY, *OPEN, "tracking=disabled"))
    assert outcome()["registered"] is False
    assert "because tracking is disabled (tracking.enabled=false)" in outcome()["outcome"]


def test_a_database_that_another_process_holds_is_said(evaluated, workspace, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.01)
    monkeypatch.setattr(locks, "LIMIT", 0.05)
    with one_at_a_time(workspace / "mlflow.db.lock", "it"):
        register(compose_config(*TINY, *OPEN))
    assert outcome()["registered"] is False
    assert f"mlflow.db is in use by process {os.getpid()} on" in outcome()["outcome"]


def test_the_verdict_names_what_it_rests_on(evaluated):
    report = read_verdict()
    assert set(report) >= {
        "verdict",
        "recommended_arm",
        "primary_metric",
        "reasons",
        "arms",
        "comparisons",
        "costs",
    }
    assert set(report["arms"]) == {
        "constant",
        "nearest",
        "zero_shot",
        "few_shot",
        "retrieval",
        "tuned",
    }
    assert set(report["arms"]["tuned"]) >= {
        "exact_match",
        "prompt_tokens",
        "completion_tokens",
        "seconds_per_request",
    }
    assert {c["against"] for c in report["comparisons"] if c["arm"] == "tuned"} == {
        "constant", "nearest", "zero_shot", "few_shot", "retrieval"
    }  # fmt: skip
    html = Path("reports/verdict.html").read_text()
    assert "default-src 'none'" in html and report["verdict"] in html
    assert report["verdict"] in Path("reports/verdict.md").read_text()
