"""The conditions on splits, end tokens and licences, and how all conditions are recorded."""

import math
from pathlib import Path

import pytest

from stages.core.config.schema import parse
from stages.core.data.leaks import write_leaks
from stages.core.data.predictions import Prediction
from stages.core.data.records import PREPARED
from stages.core.models.candidates import get_candidate
from stages.register.__main__ import main as register
from stages.register.condition import Condition, describe_conditions, get_gate_tags, list_failed
from stages.register.gate import check_gate
from stages.register.licenses import check_licenses, is_allowed
from stages.register.soundness import check_end_token, check_leaks
from tests.conftest import TINY, compose_config, write_splits
from tests.register.conftest import THINKING, outcome, said
from tests.register.test_register import GATE, REPORT


def test_splits_without_leaks_pass(workspace):
    write_splits()
    found = check_leaks()
    assert found.passed and (found.name, found.value, found.limit) == ("leak", 0.0, 0.0)


def test_a_row_that_leaks_closes_the_gate(workspace):
    write_splits()
    write_leaks(PREPARED, held_out=16, leaking=2)
    found = check_leaks()
    assert not found.passed and found.value == 0.125
    assert "12.5% of the validation" in found.sentence and "checks.leak=drop" in found.sentence


@pytest.mark.parametrize("change", ["the splits", "the file"])
def test_leaks_that_nobody_measured_in_these_splits_close_the_gate(workspace, change):
    write_splits()
    if change == "the splits":
        with (PREPARED / "train.jsonl").open("a") as file:
            file.write(" ")
    else:
        (PREPARED / "leaks.json").unlink()
    found = check_leaks()
    assert not found.passed and found.value is None and "nobody has measured" in found.sentence


def answers(cut):
    return [Prediction(str(i), "tuned", "", 1, 1, cut=found) for i, found in enumerate(cut)]


@pytest.mark.parametrize(
    ("method", "cut", "passed"),
    [
        ("sft", [False] * 9 + [True], True),
        ("sft", [False] * 8 + [True] * 2, False),
        ("sft", [True] * 10, False),
        ("sft", [None] * 10, False),  # not measured is not passed
        ("sft", [False] * 9 + [None], False),
        ("sft", [], False),
        ("sequence-classification", [None] * 10, True),
    ],
)
def test_a_model_that_does_not_end_its_answers_closes_the_gate(method, cut, passed):
    found = check_end_token(GATE, method, answers(cut))
    assert found.passed is passed
    if cut and None not in cut:
        assert (found.value, found.limit) == (sum(cut) / 10, 0.1)
    if True in cut and not passed:
        assert "-S register.gate.max_cut_fraction" in found.sentence


def licenses(*overrides):
    config = parse(compose_config(*TINY, *overrides))
    return {found.name: found for found in check_licenses(get_candidate(config, "tuned"))}


def test_an_unknown_licence_is_refused_with_the_key_to_set():
    found = licenses()["data_license"]
    assert not found.passed and found.value == "unknown"
    remedy = found.sentence.split("-S '")[1].split("'")[0]
    assert remedy == "+register.licenses={chat-jsonl: MIT}"
    found = licenses(remedy)  # what it says is what helps
    assert found["data_license"].passed and found["base_model_license"].value == "LicenseRef-own"


def test_a_hub_model_is_named_in_the_key_to_set(monkeypatch):
    model = ("model=hub", "model.source.id=owner/Model-0.6B")
    found = licenses(*model)["base_model_license"]
    remedy = found.sentence.split("-S '")[1].split("'")[0]
    assert remedy == "+register.licenses={owner/Model-0.6B: MIT}"
    assert licenses(*model, remedy)["base_model_license"].passed


def test_the_card_of_a_model_of_the_hub_states_its_licence(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    model = ("model=hub", f"model.source.id={tmp_path}")
    found = licenses(*model)["base_model_license"]
    assert found.passed and found.value == "apache-2.0"
    (tmp_path / "README.md").write_text("# A model\n")
    assert licenses(*model)["base_model_license"].value == "unknown"


def test_an_encoder_is_the_base_model_of_its_classifier():
    found = licenses("train=sequence-classification", "train/encoder=minilm")
    assert "all-minilm-l6-v2 is Apache-2.0" in found["base_model_license"].sentence


def test_a_licence_that_the_gate_does_not_allow_is_refused():
    found = licenses("+register.licenses={chat-jsonl: CC-BY-NC-4.0}")["data_license"]
    assert not found.passed and "register.gate.allowed_licenses" in found.sentence


def test_an_adapter_from_which_training_starts_has_a_licence_too(tmp_path):
    start = ("train.init_adapter.source=" + str(tmp_path),)
    assert "adapter_license" not in licenses()
    found = licenses(*start, "register=unknown-license")["adapter_license"]
    assert not found.passed and found.value == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# An adapter\n")
    assert licenses(*start)["adapter_license"].value == "cc-by-nc-4.0"
    stated = licenses(*start, f"+register.licenses={{{tmp_path}: MIT}}")["adapter_license"]
    assert stated.passed and stated.value == "MIT"


def test_a_teacher_whose_probabilities_are_learned_has_a_licence_too(tmp_path):
    teacher = ("train=distill-on-policy", f"train.teacher_model.source={tmp_path}")
    assert "teacher_license" not in licenses()
    assert not licenses(*teacher)["teacher_license"].passed
    (tmp_path / "README.md").write_text("---\nlicense: llama3.2\n---\n# A teacher\n")
    assert licenses(*teacher)["teacher_license"].value == "llama3.2"


def test_data_whose_licence_may_be_unknown_does_not_excuse_the_base_model(tmp_path):
    found = licenses("model=hub", f"model.source.id={tmp_path}", "register=unknown-license")
    assert found["data_license"].passed and not found["base_model_license"].passed


def test_the_licence_of_one_data_set_of_the_hub_is_not_that_of_another():
    of_mine = ("data=hub", "+register.licenses={me-mine: MIT}")
    configs = [
        parse(compose_config(*of_mine, f"data.source.id={name}"))
        for name in ("me/mine", "other/theirs")
    ]
    mine, other = (check_licenses(get_candidate(config, "tuned"))[1] for config in configs)
    assert mine.passed and not other.passed
    assert "+register.licenses={other-theirs: MIT}" in other.sentence


def test_an_unknown_licence_is_accepted_only_where_the_configuration_says_so():
    found = licenses("register=unknown-license")["data_license"]
    assert found.passed and found.value == "unknown"
    assert "is unknown, which the configuration accepts" in found.sentence
    for data in ("question-types", "food", "sql", "finance-ner"):
        config = parse(compose_config(f"data={data}"))
        found = check_licenses(get_candidate(config, "tuned"))
        assert [condition.passed for condition in found] == [True, True], data
        assert config.register_.gate.accept_unknown_licenses == (
            ["data"] if data == "question-types" else []
        )


@pytest.mark.parametrize(
    ("license_id", "allowed"),
    [
        ("MIT", True), ("mit", True), ("BSD-3-Clause", True), ("CC-BY-4.0", True),
        ("CC-BY-NC-4.0", False), ("CC-BY-ND-4.0", False), ("gemma", False), ("other", False),
        ("MIT AND CC-BY-4.0", True), ("MIT AND CC-BY-NC-4.0", False), ("MIT-0", False),
        ("BSD-2-Clause", True), ("CDLA-Permissive-2.0", True), ("BSD-Protection", False),
        ("BSD-3-Clause-No-Military-License", False), ("BSD-3-Clause, GPL-3.0", False),
        ("BSD-3-Clause AND(GPL-3.0-only)", False), ("BSD-3-Clause WITH Commons-Clause", False),
        ("CDLA-Permissive-2.0; non-commercial", False), ("CC-BY-4.0 & GPL-3.0", False),
        ("MIT OR Apache-2.0", False), ("", False),
    ],
)  # fmt: skip
def test_which_licences_the_shipped_gate_allows(license_id, allowed):
    shipped = parse(compose_config("register=gated")).register_.gate.allowed_licenses
    assert is_allowed(license_id, shipped) is allowed


def test_a_condition_is_short_in_a_tag_and_whole_in_the_metrics():
    found = [
        Condition("minimum", True, "It is.", 0.8931, 0.861, 0.5),
        Condition("license", True, "It is.", "unknown"),
        Condition("look", False, "x" * 5_000),
        Condition("forgetting", True, "It is.", 0.1, math.inf),
    ]
    tags = get_gate_tags(found)
    assert tags["tuneproof.gate.minimum"] == "passed: 0.8931, bound 0.861, limit 0.5"
    assert tags["tuneproof.gate.license"] == "passed: unknown"
    assert tags["tuneproof.gate.look"].startswith("failed: xxx") and len(max(tags.values())) < 600
    short = {key.removeprefix("tuneproof."): text for key, text in tags.items()}
    assert list_failed(short | {"verdict": "fine-tune"}) == ["look"]
    records = describe_conditions(found)
    assert records[0] == {
        "name": "minimum", "passed": True, "sentence": "It is.",
        "value": 0.8931, "bound": 0.861, "limit": 0.5,
    }  # fmt: skip
    assert records[3]["bound"] is None


def test_the_verdict_has_the_difference_to_the_best_prompt():
    gap = {"arm": "tuned", "metric": "exact_match", "difference": 0.2, "bound_low": 0.15}
    report = REPORT | {
        "best_prompted_arm": "few_shot", "bound_confidence": 0.975, "margin": 0.02,
        "comparisons": [gap | {"against": "zero_shot", "difference": 0.5}, gap | {"against": "few_shot"}],
        "arms": {"tuned": {"exact_match": {"value": 0.7, "ci_low": 0.6}}},
    }  # fmt: skip
    verdict, minimum, _ = check_gate(GATE, report, "tuned", [0.7])
    assert (verdict.value, verdict.bound, verdict.limit) == (0.2, 0.15, 0.02)
    assert "to few_shot, the best prompted arm, is +0.200, with 0.975" in verdict.sentence
    assert (minimum.value, minimum.bound, minimum.limit) == (0.7, 0.6, 0.5)


def test_a_refusal_names_every_condition_and_registers_nothing(evaluated):
    import mlflow

    register(compose_config(*TINY, *THINKING))
    assert outcome()["registered"] is False
    names = [found["name"] for found in outcome()["conditions"]]
    assert names == [
        "look", "verdict", "minimum", "forgetting", "leak", "end_token", "base_model_license", "data_license",
    ]  # fmt: skip
    assert any(line.startswith("failed: 100.0% of the answers did not end") for line in said())
    card = Path("reports/model_card.md").read_text()
    assert card.count("**failed**") == sum(not found["passed"] for found in outcome()["conditions"])
    assert mlflow.MlflowClient().search_registered_models() == []
