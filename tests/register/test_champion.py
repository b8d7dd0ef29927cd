import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.baseline.__main__ import main as baseline
from stages.core.config.arms import TUNED_ARM
from stages.core.config.schema import parse
from stages.core.data.leaks import write_leaks
from stages.core.data.predictions import (
    PREDICTIONS,
    Prediction,
    read_predictions,
    write_predictions,
)
from stages.core.data.records import PREPARED, Record, read_records
from stages.core.data.verdict import read_verdict
from stages.core.metrics.metrics import Metrics
from stages.core.models.candidates import get_candidate
from stages.core.storage.files import write_jsonl
from stages.evaluate.__main__ import main as evaluate
from stages.register.__main__ import main as register
from stages.register.champion import CHAMPION_ARM, check_champion
from stages.register.registry import find_champion
from stages.train.__main__ import main as train
from tests.conftest import TINY, chat, compose_config
from tests.register.evaluated_stages import GATE_OPEN

OPEN = (*GATE_OPEN, "evaluate.forgetting=false")
NUMBERS = {"train": range(24), "validation": range(24, 30), "test": range(30, 40)}


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A folder with a registered model, which answers no test row right."""
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setenv(
            "MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}"
        )  # else MLflow sets it, for all tests
        for split in NUMBERS:
            write_split(split)
        write_leaks(PREPARED, held_out=16, leaking=0)
        for stage in (baseline, train, evaluate, register):
            stage(compose_config(*TINY, *OPEN))
    return folder


@pytest.fixture
def champion(registered, monkeypatch):
    """That model, as the registry tells of it, with everything as it was when it was registered."""
    import mlflow

    monkeypatch.chdir(registered)
    monkeypatch.setenv("DVC_ROOT", str(registered))
    mlflow.set_tracking_uri(f"sqlite:///{registered / 'mlflow.db'}")
    kept = (PREDICTIONS / "tuned.jsonl").read_bytes()
    yield find_champion(parse(compose_config(*TINY, *OPEN)))
    (PREDICTIONS / "tuned.jsonl").write_bytes(kept)
    write_split("test")


def write_split(split):
    write_jsonl(
        PREPARED / f"{split}.jsonl",
        [chat(f"Say {n}.", f"number {n}", "Answer.") for n in NUMBERS[split]],
    )


def candidate(*overrides):
    return get_candidate(parse(compose_config(*TINY, *OPEN, *overrides)), TUNED_ARM)


@pytest.fixture
def report():
    """The verdict on another model than the champion."""

    def of(**changed):
        found = read_verdict()
        measured = found["lineage"]["measured_sha256"]
        other = measured | {"models/tuned/adapter_model.safetensors": "new"}
        return found | changed | {"lineage": found["lineage"] | {"measured_sha256": other}}

    return of


@pytest.fixture
def compare(champion, report):
    """The condition for a new model that answers the first `right` test rows right."""

    def of(right, *overrides, write=str, **changed):
        answers = [
            Prediction(record.id, TUNED_ARM, write(record.target) if i < right else "no", 1, 1, 0.1)
            for i, record in enumerate(read_records("test"))
        ]
        write_predictions(TUNED_ARM, answers)
        return check_champion(candidate(*overrides), report(**changed), champion)

    return of


def test_a_better_model_replaces_the_champion_and_one_that_may_only_be_lucky_does_not(compare):
    (better,) = compare(8)
    assert better.passed
    assert (
        "exact_match 0.800; the champion, version 1, has 0.000 on the same 10 test rows"
        in better.sentence
    )
    (lucky,) = compare(1)
    assert not lucky.passed and "is +0.100, with 0.95 confidence at least -" in lucky.sentence
    assert "-S register.gate.require_beating_champion=false" in lucky.sentence
    looks = {"place": 20, "count": 20, "confidence": 0.9975, "sentence": "The 20th model."}
    (clear,) = compare(6)
    (best_of_twenty,) = compare(6, looks=looks)
    assert clear.passed and not best_of_twenty.passed


def test_equally_good_models_do_not_ratchet(compare):
    (equal,) = compare(0)
    assert not equal.passed and "The difference is +0.000" in equal.sentence


def test_the_champion_may_be_replaced_without_a_comparison(compare):
    assert compare(0, "register.gate.require_beating_champion=false") == []


def test_the_same_weights_need_no_comparison(champion):
    found = read_verdict()
    (same,) = check_champion(candidate(), found, champion)
    assert same.passed and "has the same weights and is asked alike" in same.sentence


def test_the_answers_are_scored_by_todays_metric_and_options(compare):
    metric = ("evaluate.metrics=[numeric_match]", "evaluate.primary_metric=numeric_match")
    (found,) = compare(8, *metric)
    assert "numeric_match 0.800; the champion" in found.sentence
    (found,) = compare(8, write=str.upper)
    assert found.passed and "exact_match 0.800; the champion" in found.sentence
    strict = "+evaluate.options.exact_match={normalise: [spaces]}"
    (found,) = compare(8, strict, write=str.upper)
    assert not found.passed and "exact_match 0.000; the champion" in found.sentence


def test_the_answers_are_scored_by_todays_code_of_the_metric(compare, monkeypatch):
    honest = Metrics.score_records

    def lenient(self, answers, records):
        right = [
            replace(answer, text=record.target) if answer.arm == CHAMPION_ARM else answer
            for answer, record in zip(answers, records, strict=True)
        ]
        return honest(self, right, records)

    monkeypatch.setattr(Metrics, "score_records", lenient)
    (found,) = compare(8)
    assert not found.passed and "version 1, has 1.000" in found.sentence


def test_a_champion_whose_answers_were_changed_closes_the_gate(compare, registered):
    (path,) = (registered / "mlartifacts").rglob("artifacts/test_answers.json")
    whole = path.read_text()
    path.write_text(json.dumps(dict.fromkeys(json.loads(whole), "")))
    (found,) = compare(10)
    path.write_text(whole)
    assert not found.passed
    assert "The files were changed after the registration" in found.sentence
    assert compare(10)[0].passed


def test_the_champion_is_asked_only_for_rows_that_it_has_not_answered(
    champion, compare, monkeypatch
):
    from stages.register import champion as module

    asked = []
    honest = module.ask

    def counting(arm, engine, tokenizer, config, records, instruction):
        asked.append(([record.id for record in records], config.prompt.max_new_tokens, instruction))
        return honest(arm, engine, tokenizer, config, records, instruction)

    monkeypatch.setattr(module, "ask", counting)
    known = read_records("test")
    compare(8)
    assert asked == []
    new = [chat(f"Say {n}.", f"number {n}", "Answer.") for n in (77, 78)]
    write_jsonl(PREPARED / "test.jsonl", [*known[3:], *new])
    (found,) = compare(8, "prompt.max_new_tokens=4", "prompt.tuned_system_prompt=Other.")
    assert asked == [([record.id for record in new], 8, None)], (
        "as it was asked when it was registered"
    )
    assert found.passed and "had not answered 2 of the rows before" in found.sentence


def test_the_loaded_champion_answers_as_the_tuned_model_did(champion):
    import mlflow

    from stages.register import champion as module

    config = parse(compose_config(*TINY, *OPEN))
    judged = {answer.id: answer.text for answer in read_predictions(TUNED_ARM)}
    kept = mlflow.artifacts.load_dict(f"{champion.uri}/{module.ANSWERS}")
    assert kept == judged
    assert module.ask_champion(config, champion, read_records("test")) == judged


@pytest.mark.parametrize("removed", ["test_answers.json", "model"])
def test_a_champion_that_cannot_answer_closes_the_gate_and_says_what_to_do(
    compare, registered, removed
):
    (path,) = (registered / "mlartifacts").rglob(f"artifacts/{removed}")
    path.rename(path.with_name("gone"))
    write_jsonl(PREPARED / "test.jsonl", [*read_records("test"), chat("Say 77.", "number 77")])
    (found,) = compare(11)
    path.with_name("gone").rename(path)
    assert not found.passed and found.sentence.startswith(
        "the champion, version 1, cannot answer the current test rows ("
    )
    assert (
        "models:/tuneproof-chat-jsonl/1" in found.sentence
        and "require_beating_champion=false" in found.sentence
    )


def test_rows_of_one_group_count_as_one(compare, champion):
    records = read_records("test")
    (rows,) = compare(5)
    grouped = [Record(r.id, r.messages, meta={"group": "ab"[i % 2]}) for i, r in enumerate(records)]
    write_jsonl(PREPARED / "test.jsonl", grouped)
    (groups,) = compare(5)
    assert rows.passed and not groups.passed


def test_the_gate_compares_and_a_replacement_becomes_version_two(prepared):
    import mlflow

    settings = compose_config(*TINY, *OPEN)
    for stage in (baseline, train, evaluate, register):
        stage(settings)
    other = (*TINY, *OPEN, "train.args.learning_rate=2e-4")
    for stage in (train, evaluate, register):
        stage(compose_config(*other))
    outcome = json.loads(Path("metrics/register.json").read_text())
    assert (
        outcome["registered"] is False
        and "the champion, version 1, has 0.000" in outcome["conditions"][-1]["sentence"]
    )
    register(compose_config(*other, "register.gate.require_beating_champion=false"))
    assert find_champion(parse(settings)).number == "2"
    kept = mlflow.artifacts.load_dict("models:/tuneproof-chat-jsonl/2/test_answers.json")
    assert kept.keys() == {record.id for record in read_records("test")}


def test_bounds_cover_and_have_a_width_where_all_rows_agree():
    from stages.core.statistics.bounds import difference
    from stages.core.statistics.scores import Scores

    right = Scores(np.ones((20, 2)))
    found = difference(right, right, 0.95)
    assert (
        found.value == 0 and found.ci_low < found.bound_low < 0 < found.bound_high < found.ci_high
    )
    wrong = Scores(np.tile([0.0, 1.0], (20, 1)))
    assert difference(right, wrong, 0.95).bound_low > 0.6
