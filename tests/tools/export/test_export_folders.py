"""A merged export and an adapter hold what was registered, and a failed export changes nothing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from stages.core.config.schema import read_params
from stages.core.errors import UserError
from stages.core.models import adapters
from stages.core.models.base_models import get_base_model
from stages.core.storage.files import sha256_file
from stages.core.tracking.version_files import ADAPTER, MODEL
from tests.tools.export.conftest import copy_artifacts, options, proved
from tools.export import merged
from tools.export.__main__ import export, main


def test_a_merged_export_is_the_registered_model(source, tmp_path):
    to = tmp_path / "out"
    proofs = export(source, options("merged"), to)
    assert proved(proofs) == {"files": True, "tensors": True, "tokens": True}
    assert "of all 10 test rows" in proofs[-1].sentence
    model = AutoModelForCausalLM.from_pretrained(to)
    tokenizer = AutoTokenizer.from_pretrained(to)
    registered = load_file(source.folder / MODEL / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], found) for name, found in registered.items())
    assert tokenizer.chat_template == source.tokenizer.chat_template
    settings = GenerationConfig.from_pretrained(to)
    assert (settings.do_sample, settings.max_new_tokens, settings.eos_token_id) == (False, 8, 1)
    about = json.loads((to / "tuneproof.json").read_text())
    assert (about["version"], about["asked"]["method"], about["aliases"]) == (
        "1",
        "sft",
        ["champion"],
    )
    assert about["tags"]["files_sha256"] == source.version.tags["files_sha256"]
    assert about["files"].keys() == {path.name for path in to.iterdir()} - {"tuneproof.json"}
    assert all(sha256_file(to / name) == found for name, found in about["files"].items())
    card = (to / "README.md").read_text()
    assert card.startswith("---\n") and "library_name: transformers" in card
    assert "## Lineage" in card and "**tensors**: all 21" in card
    assert json.loads((to / "proof.json").read_text())[1]["numbers"] == {"tensors": 21}


def test_without_the_test_rows_the_export_says_what_was_not_proved(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    proofs = export(source, options("merged"), tmp_path / "out")
    assert proved(proofs) == {"files": True, "tensors": True, "tokens": False}
    assert "not checked, because the test rows" in proofs[-1].sentence


def test_a_failed_export_leaves_the_earlier_one(source, tmp_path, monkeypatch):
    to = tmp_path / "out"
    export(source, options("merged"), to)
    before = sorted((path.name, sha256_file(path)) for path in to.iterdir())

    def write_other(source, folder, copied=merged.copy_model):
        found = copied(source, folder)
        states = load_file(folder / "model.safetensors")
        states["lm_head.weight"] = states["lm_head.weight"].nextafter(torch.ones(1))
        save_file(states, folder / "model.safetensors", {"format": "pt"})
        return {name: path for name, path in found.items() if not name.endswith(".safetensors")}

    monkeypatch.setattr(merged, "copy_model", write_other)
    with pytest.raises(UserError, match=r"1 of 21 tensors differ, such as lm_head.weight"):
        export(source, options("merged"), to)
    assert sorted((path.name, sha256_file(path)) for path in to.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match="tensors differ"):
        export(source, options("merged"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_copy_that_the_disk_changed_is_noticed(source, tmp_path, monkeypatch):
    copy = shutil.copyfile
    monkeypatch.setattr(
        merged.shutil,
        "copyfile",
        lambda a, b: Path(b).write_bytes(b"") if Path(a).name == "config.json" else copy(a, b),
    )
    with pytest.raises(UserError, match=r"config.json differs from .* Check the disk"):
        export(source, options("merged"), tmp_path / "out")


def test_other_folders_and_files_are_not_replaced(source, tmp_path):
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(UserError, match="has other files than an export"):
        export(source, options("merged"), tmp_path)
    with pytest.raises(UserError, match="this is a file"):
        export(source, options("merged"), tmp_path / "photo.jpg")
    assert (tmp_path / "photo.jpg").read_text() == "mine"
    (tmp_path / "tuneproof.json").write_text("{}")  # of another program
    with pytest.raises(UserError, match=r"such as photo\.jpg"):
        export(source, options("merged"), tmp_path)


def test_a_file_that_was_put_into_an_export_is_not_deleted(source, tmp_path):
    to = tmp_path / "out"
    export(source, options("merged"), to)
    export(source, options("merged"), to)  # nothing of another
    (to / "notes").mkdir()
    (to / "notes/mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"such as notes/mine\.txt"):
        export(source, options("merged"), to)
    assert (to / "notes/mine.txt").read_text() == "mine"


def test_an_adapter_with_its_base_model_is_the_registered_model(source, tmp_path):
    to = tmp_path / "out"
    proofs = export(source, options("adapter"), to)
    assert proved(proofs) == {"files": True, "tensors": True, "tokens": True}
    base = get_base_model(read_params().model, seed=42)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, to).merge_and_unload()
    registered = load_file(source.folder / MODEL / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], found) for name, found in registered.items())
    assert "BASE is the base model" in (to / "README.md").read_text()
    assert not (to / "model.safetensors").exists()


def test_the_adapter_of_an_older_version_comes_from_the_workspace(source, tmp_path, monkeypatch):
    older = copy_artifacts(source, tmp_path / "older")
    shutil.rmtree(older.folder / ADAPTER)
    assert export(older, options("adapter"), tmp_path / "out")[0].proved
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"has no adapter beside .* Choose format=merged"):
        export(older, options("adapter"), tmp_path / "other")


def test_an_adapter_with_another_configuration_is_refused(source, tmp_path):
    changed = copy_artifacts(source, tmp_path / "changed")
    path = changed.folder / ADAPTER / adapters.CONFIG
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"lora_alpha": 1}))
    with pytest.raises(UserError, match="base model with the adapter does not have the registered"):
        export(changed, options("adapter"), tmp_path / "out")


def test_another_base_model_is_named(source, tmp_path):
    tags = dict(source.version.tags) | {"base_model_sha256": "0" * 64}
    other = replace(source, version=replace(source.version, tags=tags))
    with pytest.raises(UserError, match=r"another base model than that of .* \(000000000000\)"):
        export(other, options("adapter"), tmp_path / "out")


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["tools.export", *words])
    main()


def test_the_command_exports_and_prints_what_was_proved(source, tmp_path, monkeypatch, capsys):
    to = tmp_path / "out"
    run(monkeypatch, "model=tuneproof-chat-jsonl/1", "format=merged", f"to={to}")
    said = capsys.readouterr().out
    assert "What was proved" in said and f"Exported models:/tuneproof-chat-jsonl/1 to {to}" in said
    assert (to / "proof.json").exists()


def test_changed_files_of_a_version_are_not_exported(source, tmp_path, monkeypatch):
    path = source.folder / MODEL / "config.json"
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    try:
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, "model=tuneproof-chat-jsonl/1", "format=merged", f"to={tmp_path}/out")
    finally:
        path.write_bytes(before)
    assert "changed after the registration" in str(ended.value.code)
    assert not (tmp_path / "out").exists()
