"""Nothing but what was measured is registered."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from stages.core.config.schema import parse
from stages.core.data.predictions import PREDICTIONS
from stages.core.data.records import read_records
from stages.core.data.verdict import VERDICT, read_verdict
from stages.core.environment import code
from stages.core.errors import UserError
from stages.core.models import candidates, measured
from stages.core.models.candidates import get_candidate
from stages.core.models.measured import hash_measured, hash_served
from stages.core.storage.files import read_jsonl, sha256_file, write_jsonl
from stages.register.__main__ import main as register
from stages.register.measured import check_look, check_measured
from tests.conftest import ROOT, TINY, compose_config
from tests.register.conftest import OPEN, outcome, said


def check(*overrides):
    config = parse(compose_config(*TINY, *OPEN, *overrides))
    return check_measured(get_candidate(config, "tuned"), read_verdict())


def edit_verdict(change):
    report = json.loads(VERDICT.read_text())
    change(report)
    VERDICT.write_text(json.dumps(report))


FILES = (
    "models/tuned/adapter_model.safetensors",
    "models/tuned/adapter_config.json",
    "models/tuned/tokenizer.json",
    "models/tuned/tokenizer_config.json",
    "models/tuned/chat_template.jinja",
    "models/tuned/training.json",
    "models/tuned/generation_config.json",  # a file that was not there
    "data/prepared/train.jsonl",
    "data/prepared/validation.jsonl",
    "data/prepared/test.jsonl",
    "predictions/tuned.jsonl",
    "predictions/few_shot.jsonl",
    "predictions/nearest.jsonl",
    "predictions/choices.json",
    "predictions/general_base.json",
    "predictions/general_tuned.json",
)


@pytest.mark.parametrize("name", FILES)
def test_an_edited_file_is_refused_by_its_name_and_both_hashes(evaluated, name):
    path = Path(name)
    before = f"SHA-256 {sha256_file(path)[:12]}" if path.exists() else "missing"
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    changed = f"{name}: {before} when it was measured, SHA-256 {sha256_file(path)[:12]} now\n"
    with pytest.raises(UserError) as error:
        check()
    assert changed in str(error.value) and str(error.value).count("when it was measured") == 1
    assert "Run `dvc repro`, or `dvc repro --force --single-item evaluate`" in str(error.value)


def test_a_removed_file_is_refused(evaluated):
    Path("models/tuned/chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"chat_template.jinja: SHA-256 \w{12} .* missing now"):
        check()


def test_a_changed_metric_is_refused_and_a_comment_in_it_is_not(evaluated, monkeypatch):
    for name in ("metrics", "statistics"):
        shutil.copytree(ROOT / "stages/core" / name, Path("stages/core", name))
    for module in (code, measured):
        monkeypatch.setattr(module, "ROOT", Path.cwd())
    path = Path("stages/core/metrics/exact_match/exact_match.py")
    path.write_text(path.read_text() + "# A comment.\n")
    assert len(check()) == 1
    path.write_text(path.read_text() + "ALWAYS = 1\n")
    with pytest.raises(UserError, match=f"{path}: SHA-256"):
        check()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("prompt.tuned_system_prompt=Other.", "prompt.tuned_system_prompt"),
        ("prompt.max_new_tokens=9", "prompt.max_new_tokens"),
        ("model.dtype=bfloat16", "model.dtype"),
        ("model.source.layers=1", "model.source"),
        ("model.chat_template=null", "model.chat_template"),
        ("model.chat_template_kwargs.enable_thinking=true", "model.chat_template_kwargs"),
        ("evaluate.options.exact_match={normalise: false}", "evaluate.options"),
        ("evaluate.margin=0.01", "evaluate.margin"),
        ("evaluate.cut_answers=wrong", "evaluate.cut_answers"),
        ("train.seeds=[43]", "train.seeds"),
    ],
)
def test_a_changed_setting_is_refused(evaluated, override, key):
    with pytest.raises(UserError, match=rf"\n  {key}: SHA-256 \w+ when .*\w+ now\n"):
        check(f"++{override}" if "options" in override else override)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda report: report["arms"]["tuned"]["exact_match"].update(value=0.9),
            "says that exact_match of tuned has the value 0.9, but its answers in predictions "
            "have 0.0",
        ),
        (
            lambda report: report["arms"]["few_shot"]["exact_match"].update(ci_high=0.2),
            "says that exact_match of few_shot has the ci_high 0.2",
        ),
        (
            lambda report: report["arms"]["tuned"]["exact_match"].update(value=None),
            "does not follow verdict.schema.json: $.arms.tuned.exact_match.value",
        ),
        (lambda report: report["arms"].pop("tuned"), "of tuned has the value None"),
        (lambda report: report.update(primary_metric="rouge"), "has primary_metric 'rouge'"),
        (lambda report: report.update(split="validation"), "has split 'validation'"),
        (lambda report: report.update(confidence=0.51), "has confidence 0.51 instead of 0.95"),
        (lambda report: report["looks"].update(confidence=0.6), "has looks.confidence 0.6"),
        (lambda report: report.update(candidate="other"), "has candidate 'other'"),
        (lambda report: report.pop("looks"), "$.looks: 'confidence' is a required"),
        (
            lambda report: report.update(verdict="fine-tune", recommended_arm="tuned"),
            "was changed after `evaluate` wrote it and reports/measured.json",
        ),
        (lambda report: report.update(forgetting=None), "was changed after `evaluate` wrote it"),
        (
            lambda report: report["lineage"].pop("measured_sha256"),
            "does not say what was measured, because an earlier version wrote it",
        ),
    ],
)
def test_an_edited_verdict_is_refused(evaluated, change, said):
    edit_verdict(change)
    with pytest.raises(UserError) as error:
        check()
    assert said in str(error.value) and "Run `dvc repro`" in str(error.value)
    with pytest.raises(SystemExit, match=r"register: reports/verdict\.json"):
        register(compose_config(*TINY, *OPEN))
    assert not Path("metrics/register.json").exists()


def test_a_broken_verdict_is_one_message(evaluated):
    VERDICT.write_text(VERDICT.read_text()[:-100])
    with pytest.raises(SystemExit, match=r"verdict.json is not valid JSON \(.*Run `dvc repro`"):
        register(compose_config(*TINY, *OPEN))


def test_better_answers_with_their_hash_in_the_verdict_are_refused(evaluated):
    path = PREDICTIONS / "tuned.jsonl"
    rows = read_jsonl(path)
    right = {record.id: record.target for record in read_records("test")}
    write_jsonl(path, [row | {"text": right[row["id"]]} for row in rows])
    hashes = {str(path): sha256_file(path)}
    edit_verdict(lambda report: report["lineage"]["measured_sha256"].update(hashes))
    with pytest.raises(UserError, match=r"has the value 0.0, but its answers in .* have 1.0"):
        check()


def test_a_look_that_is_not_in_the_ledger_does_not_count(evaluated):
    (path,) = Path("data/test_looks").rglob("*.json")
    whole = path.read_text()
    path.write_text(whole.replace('"place": 1', '"place": 2'))
    register(compose_config(*TINY, *OPEN))
    assert outcome()["registered"] is False
    assert "failed: the look at the test rows, number 1, is not in the" in said()[0]
    path.unlink()
    register(compose_config(*TINY, *OPEN))
    assert outcome()["registered"] is False


@pytest.mark.parametrize(
    ("split", "sentence", "said"),
    [
        ("validation", "Judged on validation rows.", "-S evaluate.split=test"),
        ("test", "Trained on 50% of the rows.", "Trained on 50% of the rows."),
    ],
)
def test_a_verdict_that_is_no_counted_look_is_not_registered(config, split, sentence, said):
    looks = {"place": None, "count": None, "confidence": 0.95, "sentence": sentence}
    found = check_look(get_candidate(config(), "tuned"), {"split": split, "looks": looks})
    assert not found.passed and said in found.sentence


def test_another_base_model_is_refused(evaluated, monkeypatch):
    honest = candidates.get_encoder
    other = {"sha256": "0" * 64}
    monkeypatch.setattr(
        candidates, "get_encoder", lambda config: dataclasses.replace(honest(config), **other)
    )
    with pytest.raises(
        SystemExit,
        match=r"is not the base model that models/tuned/training.json was trained on "
        r"\(SHA-256 000000000000 instead of SHA-256 \w{12}\)",
    ):
        register(compose_config(*TINY, *OPEN))


def test_the_hashes_are_the_same_in_another_folder(evaluated, tmp_path_factory, monkeypatch):
    config = parse(compose_config(*TINY, *OPEN))
    first = hash_measured(config)
    assert first == read_verdict()["lineage"]["measured_sha256"]
    other = tmp_path_factory.mktemp("other") / "deeper"
    shutil.copytree(Path.cwd(), other)
    (other / "models/tuned/.DS_Store").write_text("of a file browser")
    monkeypatch.chdir(other)
    assert hash_measured(config) == first
    assert not any(key.startswith(("/", "..")) for key in first)


def get_hash(config, dtype="float32"):
    lineage = {"measured_sha256": hash_measured(config), "dtype": dtype}
    return hash_served(get_candidate(config, "tuned"), lineage)


def test_a_model_that_is_asked_otherwise_is_another_model(evaluated):
    served = {}
    for override in ("seed=42", "prompt.max_new_tokens=9", "prompt.tuned_system_prompt=Other."):
        config = parse(compose_config(*TINY, *OPEN, override))
        served[override] = get_hash(config)
    assert len(set(served.values())) == 3
    assert get_hash(config, "bfloat16") not in served.values()
    path = Path("models/tuned/training.json")
    path.write_bytes(path.read_bytes() + b" ")
    config = parse(compose_config(*TINY, *OPEN))
    assert get_hash(config) == served["seed=42"]
