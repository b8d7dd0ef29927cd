"""The stages after training, where what was trained is a classifier; the prompted arms' answers are made up here."""

import json
from pathlib import Path

import pytest

from stages.core.config.arms import BASE_ARMS, MODEL_FREE_ARMS, REMOTE_ARM
from stages.core.config.schema import parse
from stages.core.data.leaks import write_leaks
from stages.core.data.predictions import (
    GENERAL_BASE,
    Prediction,
    read_predictions,
    write_choices,
    write_predictions,
)
from stages.core.data.records import PREPARED, read_records
from stages.core.data.verdict import read_verdict, write_verdict
from stages.core.environment.lineage import config_sha256
from stages.core.models.candidates import get_candidate
from stages.core.storage.files import sha256_file, write_json
from stages.evaluate.__main__ import main as evaluate
from stages.register.__main__ import main as register
from stages.register.champion import ask_champion
from stages.register.registry import find_champion
from stages.train.__main__ import main as train
from tests.conftest import TINY, compose_config
from tests.train.methods.test_labels import ENCODER, FAST, classified, tagged, write_rows

GATE = (
    "register=unknown-license",
    "register.gate.verdict=null",
    "register.gate.min_primary_metric=0.0",
)
QUICK = (*FAST[1:], *GATE, ENCODER)
METHODS = {
    "sequence-classification": (
        classified,
        ("evaluate=classes",),
        "accuracy",
        "text-classification",
    ),
    "token-classification": (tagged, ("evaluate=entities",), "entity_f1", "token-classification"),
}

# The twelve tagged test rows are only four different questions, which show too little.
VERDICTS = {
    "sequence-classification": "fine-tune",
    "token-classification": "not-enough-evidence",
}


def prompted():
    """Arms that always say the same, and a base model that was asked the general suite."""
    write_leaks(PREPARED, held_out=24, leaking=0)
    records = read_records("test")
    for arm in (*MODEL_FREE_ARMS, *BASE_ARMS):
        write_predictions(arm, [Prediction(r.id, arm, "glad", 40, 2, 0.1) for r in records])
    write_predictions(REMOTE_ARM, [])
    choice = {"instruction": None, "shots": 0, "rows": 0, "trials": []}
    write_choices(dict.fromkeys(BASE_ARMS, choice))
    write_json(
        GENERAL_BASE,
        {"answers": {}, "prose": {"nats": [], "tokens": []}, "harness": {"x": {}}, "seconds": 1.0},
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_classifier_is_compared_and_registered_like_any_tuned_model(workspace, method):
    import mlflow

    make, settings, metric, task = METHODS[method]
    write_rows(make)
    prompted()
    config = compose_config(*TINY, *QUICK, *settings, f"train={method}")
    for stage in (train, evaluate, register):
        stage(config)
    report = read_verdict()
    tuned = report["arms"]["tuned"]
    assert report["verdict"] == VERDICTS[method] and tuned[metric]["value"] == 1
    assert tuned["completion_tokens"] == 0 < tuned["prompt_tokens"]
    assert (
        set(report["arms"]) == {*MODEL_FREE_ARMS, *BASE_ARMS, "tuned"}
        and "break_even_requests" in report["costs"]
    )
    assert report["forgetting"] is None and report["harness"] == []  # there is nothing to ask it
    assert json.loads(Path("predictions/general_tuned.json").read_text()) == {}
    outcome = json.loads(Path("metrics/register.json").read_text())
    said = {found["name"]: found["sentence"] for found in outcome["conditions"] if found["passed"]}
    assert said["minimum"] == f"{metric} 1.000; the gate requires at least 0.0"
    assert said["forgetting"] == "a one-task model: forgetting was not measured"
    assert "a classifier writes no text, so it needs no end token" in said.values()
    assert set(said) >= {"look", "leak", "data_license", "champion", "round_trip"}
    card = Path("reports/model_card.md").read_text()
    assert f"# a {task} pipeline of transformers" in card and "System message" not in card
    pipeline = mlflow.transformers.load_model("models:/tuneproof-chat-jsonl@champion")
    assert pipeline.task == task
    checked = parse(config)
    answered = {answer.id: answer.text for answer in read_predictions("tuned")}
    assert ask_champion(checked, find_champion(checked), read_records("test")) == answered
    if method == "sequence-classification":
        assert [pipeline(f"1 {'!?'[n] * 8}")[0]["label"] for n in (0, 1)] == ["glad", "not sure"]
    else:
        found = pipeline("we Ann and all went .", aggregation_strategy="first")
        assert [entity["entity_group"] for entity in found] == ["person"]


def test_rivals_and_seeds_are_asked_and_the_recommended_one_is_registered(workspace):
    import mlflow

    write_rows(classified)
    prompted()
    Path("models/rivals/gone").mkdir(parents=True)  # of an earlier configuration
    rival = (
        "+train@rivals.whole=sequence-classification",
        "rivals.whole.seeds=[43]",
        "+train/launcher@rivals.whole.launcher=single",
    )
    options = (*TINY, *QUICK, "evaluate=classes", "train=sequence-classification", *rival)
    for candidate in ("tuned", "whole"):
        train(compose_config(*options, f"candidate={candidate}"))
    config = compose_config(*options)
    evaluate(config)
    assert [path.name for path in Path("models/rivals").iterdir()] == ["whole"]
    report = read_verdict()
    assert set(report["arms"]) == {*MODEL_FREE_ARMS, *BASE_ARMS, "tuned", "whole"}
    assert {answer.arm for answer in read_predictions("rivals/whole")} == {"whole"}
    whole = get_candidate(parse(config), "whole")
    first, second = whole.read_predictions()
    assert first == read_predictions("rivals/whole") and [a.id for a in first] == [
        a.id for a in second
    ]
    assert whole.read_training(43)["numbers"]["seconds"] > 0
    assert json.loads(whole.general.read_text()) == {}
    weights = sha256_file(Path("models/rivals/whole/model.safetensors"))
    hashes = report["lineage"]["measured_sha256"]
    assert hashes["models/rivals/whole/model.safetensors"] == weights
    assert {
        "models/rivals/whole/seeds/43/model.safetensors",
        "predictions/seeds/whole/43.jsonl",
        "models/tuned/model.safetensors",
        "rivals.whole.method",
    } <= set(hashes)
    write_verdict(report | {"recommended_arm": "whole", "candidate": "whole"})
    register(config)
    version = mlflow.MlflowClient().get_model_version_by_alias("tuneproof-chat-jsonl", "champion")
    assert version.tags["tuneproof.model_sha256"] == weights
    assert (
        version.tags["tuneproof.base_model"] == "tiny-random"
        and "its arm is <code>whole</code>" in version.description
    )
    assert version.tags["tuneproof.config_sha256"] == config_sha256(parse(config))


def test_a_reward_model_answers_no_prompts(prepared):
    with pytest.raises(
        SystemExit,
        match=r"train=reward-model trains a judge, which answers no prompts.*Run `dvc repro train`",
    ):
        evaluate(compose_config(*TINY, "train.method=reward-model", "tracking=disabled"))
