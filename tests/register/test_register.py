import json
from dataclasses import replace
from pathlib import Path

import pytest

from stages.baseline.__main__ import main as baseline
from stages.core.config import Gate, parse
from stages.core.lineage import config_sha256
from stages.evaluate.__main__ import main as evaluate
from stages.register.__main__ import main as register
from stages.register.gate import Champion, check_gate
from stages.train.__main__ import main as train
from tests.conftest import TINY, compose_config

REPORT = {
    "verdict": "fine-tune",
    "primary_metric": "exact_match",
    "arms": {"tuned": {"exact_match": {"value": 0.7}}},
    "forgetting": None,
    "lineage": {"data_sha256": {"test": "abc"}},
}
GATE = Gate(verdict="fine-tune", minimum=0.5, forgotten=0.2, champion="compare")
CHAMPION = Champion("3", "exact_match", 0.6, "abc", "w")


@pytest.mark.parametrize(
    ("gate", "champion", "passed"),
    [
        (GATE, None, [True, True]),
        (GATE, CHAMPION, [True, True, True]),
        (GATE, replace(CHAMPION, value=0.7), [True, True, True]),
        (GATE, replace(CHAMPION, value=0.71), [True, True, False]),
        (GATE, replace(CHAMPION, test_sha256="other"), [True, True, False]),
        (GATE, replace(CHAMPION, metric="entity_f1"), [True, True, False]),
        (GATE.model_copy(update={"champion": "ignore"}), replace(CHAMPION, value=0.9), [True, True]),
        (GATE.model_copy(update={"minimum": 0.8}), None, [True, False]),
        (GATE.model_copy(update={"verdict": "prompt"}), None, [False, True]),
        (GATE.model_copy(update={"verdict": None}), None, [True]),
    ],
)
def test_the_gate(gate, champion, passed):
    assert [condition.passed for condition in check_gate(gate, REPORT, champion)] == passed


@pytest.mark.parametrize(("difference", "passed"), [(-0.1, True), (0.05, True), (-0.2, True), (-0.21, False)])
def test_what_was_forgotten_closes_the_gate(difference, passed):
    report = REPORT | {"forgetting": {"abilities": [{"difference": {"value": difference}}]}}
    assert [condition.passed for condition in check_gate(GATE, report, None)] == [True, True, passed]
    assert len(check_gate(GATE.model_copy(update={"forgotten": None}), report, None)) == 2


OPEN = (
    "register.gate.verdict=null",
    "register.gate.minimum=0.0",
    "train.args.num_train_epochs=1",
)


@pytest.fixture
def evaluated(prepared):
    """The stages up to `register`, on the tiny model."""
    for stage in (baseline, train, evaluate):
        stage(compose_config(*TINY, *OPEN))
    return prepared


def outcome():
    return json.loads(Path("metrics/register.json").read_text())


def test_a_closed_gate_is_an_answer_and_registers_nothing(evaluated, workspace):
    import mlflow

    register(compose_config(*TINY))
    assert outcome()["registered"] is False and outcome()["version"] is None
    assert any(reason.startswith("failed: verdict") for reason in outcome()["reasons"])
    assert "**failed**" in Path("reports/model_card.md").read_text()
    assert mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}").search_registered_models() == []


def test_an_open_gate_registers_once_with_its_lineage(evaluated, workspace):
    import mlflow

    for _ in range(2):
        register(compose_config(*TINY, *OPEN))
    assert outcome()["registered"] is True and outcome()["version"] == "1"
    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    assert len(client.search_model_versions("name='tuneproof-chat-jsonl'")) == 1
    version = client.get_model_version_by_alias("tuneproof-chat-jsonl", "champion")
    report = json.loads(Path("reports/verdict.json").read_text())
    assert version.tags["tuneproof.test_sha256"] == report["lineage"]["data_sha256"]["test"]
    assert version.tags["tuneproof.config_sha256"] == config_sha256(parse(compose_config(*TINY, *OPEN)))
    assert {"tuneproof.git_commit", "tuneproof.chat_template_sha256", "tuneproof.base_model_sha256"} <= set(
        version.tags
    )
    assert "## The gate" in version.description
    model = client.get_logged_model(version.model_id or version.source.removeprefix("models:/"))
    assert {metric.dataset_digest for metric in model.metrics} == {report["lineage"]["data_sha256"]["test"][:32]}


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
    with pytest.raises(SystemExit, match="came back with other logits"):
        register(compose_config(*TINY, *OPEN))
    assert mlflow.MlflowClient().search_registered_models() == []


def test_a_registry_that_is_away_is_not_an_error(evaluated, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    register(compose_config(*TINY, *OPEN, "tracking.timeout=1"))
    assert outcome()["registered"] is False and "dvc repro --force" in outcome()["outcome"]


def test_the_verdict_names_what_it_rests_on(evaluated):
    report = json.loads(Path("reports/verdict.json").read_text())
    assert set(report) >= {"verdict", "recommended_arm", "primary_metric", "reasons", "arms", "comparisons", "costs"}
    assert set(report["arms"]) == {"zero_shot", "few_shot", "retrieval", "tuned"}
    assert set(report["arms"]["tuned"]) >= {"exact_match", "prompt_tokens", "completion_tokens", "seconds_per_request"}
    assert {(c["arm"], c["against"]) for c in report["comparisons"]} == {
        ("tuned", arm) for arm in ("zero_shot", "few_shot", "retrieval")
    }
    html = Path("reports/verdict.html").read_text()
    assert "default-src 'none'" in html and report["verdict"] in html
    assert report["verdict"] in Path("reports/verdict.md").read_text()
