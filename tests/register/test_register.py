import json
from pathlib import Path

import pytest

from stages.core.config.schema import Gate, parse
from stages.core.data.verdict import read_verdict
from stages.core.environment.lineage import config_sha256
from stages.register.__main__ import main as register
from stages.register.gate import check_gate
from tests.conftest import TINY, compose_config
from tests.register.conftest import OPEN, outcome

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
)


def suite(base, tuned, *, half=0.02):
    """The report's part on forgetting."""
    lost = {"value": tuned - base, "ci_low": tuned - base - half, "ci_high": tuned - base + half}
    return {"abilities": [{"base": {"value": base}, "tuned": {"value": tuned}, "difference": lost}]}


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
    if forgetting is None:
        assert "forgetting was not measured" in one_task.sentence
    else:
        tuned = forgetting["abilities"][0]["tuned"]["value"]
        assert (
            f"it scores {tuned:.3f} on the general suite, the base model 0.463" in one_task.sentence
        )


def test_a_closed_gate_is_an_answer_and_registers_nothing(evaluated, workspace):
    import mlflow

    register(compose_config(*TINY))
    assert outcome()["registered"] is False and outcome()["version"] is None
    assert any(reason.startswith("failed: verdict") for reason in outcome()["reasons"])
    assert "**failed**" in Path("reports/model_card.md").read_text()
    assert (
        mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}").search_registered_models() == []
    )


def test_an_assistant_that_forgot_or_was_not_asked_stays_out(evaluated):
    path = Path("reports/verdict.json")
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"forgetting": None}))
    register(compose_config(*TINY, *OPEN, "register=gated"))
    assert outcome()["registered"] is False
    assert "failed: an assistant: forgetting was not measured" in outcome()["reasons"][-1]


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
    with pytest.raises(SystemExit, match="has different logits after loading"):
        register(compose_config(*TINY, *OPEN))
    assert mlflow.MlflowClient().search_registered_models() == []


def test_a_registry_that_is_away_is_not_an_error(evaluated, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    register(compose_config(*TINY, *OPEN, "tracking.timeout=1"))
    assert outcome()["registered"] is False and "dvc repro --force" in outcome()["outcome"]


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
