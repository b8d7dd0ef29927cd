import logging
import shutil
from pathlib import Path

import pytest

from stages.core.config.model import HubSource
from stages.core.errors import UserError
from stages.core.models.base_models import get_base_model, get_base_tokenizer, get_hub_model
from stages.core.storage.cache import LIST
from stages.core.storage.files import read_json, sha256_file, write_json


def flip(path):
    """Change one byte in the middle of a file, in a file of its own, as a new process finds it."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


@pytest.fixture
def folder(base, tmp_path):
    shutil.copytree(base.path, tmp_path / "model")
    (tmp_path / "model" / LIST).unlink()
    return tmp_path / "model"


def source(name, **more):
    fields = {"kind": "hub", "id": str(name), "revision": None, "trust_remote_code": False}
    return HubSource(**fields | more)


def test_a_flipped_byte_of_the_cached_model_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path))
    base = get_base_model(config().model, seed=42)
    weights = Path(base.path, "model.safetensors")
    assert base.sha256 == sha256_file(weights)
    flip(weights)
    with pytest.raises(
        UserError, match=r"model\.safetensors: this file of the cache has the SHA-256"
    ):
        get_base_model(config().model, seed=42)


def test_the_hash_of_a_local_model_is_that_of_its_bytes(folder):
    before = get_hub_model(source(folder), "model.source.id").sha256
    flip(folder / "model.safetensors")
    assert before != get_hub_model(source(folder), "model.source.id").sha256


def test_python_files_of_a_model_are_not_executed_and_named(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert get_hub_model(source(folder), "model.source.id").sha256
    assert "has Python files (evil.py), which are not executed" in caplog.text
    config = read_json(folder / "config.json")
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    write_json(folder / "config.json", config)
    with pytest.raises(UserError, match=r"set model\.source\.trust_remote_code=true"):
        get_hub_model(source(folder), "model.source.id")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_in_the_cache_of_the_hub_is_refused(folder, tmp_path, monkeypatch):
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    commit = "a" * 40
    place = hub / "models--owner--name"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (place / "blobs").mkdir()
    for path in folder.iterdir():
        blob = place / "blobs" / sha256_file(path)
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    found = get_hub_model(source("owner/name", revision=commit), "model.source.id")
    assert found.revision == commit and found.sha256
    flip((snapshot / "model.safetensors").resolve())
    with pytest.raises(UserError, match="cache of the Hugging Face Hub is damaged"):
        get_hub_model(source("owner/name", revision=commit), "model.source.id")


def test_a_model_that_is_not_there_says_what_to_do():
    with pytest.raises(UserError, match=r"model\.source\.id 'owner/none': "):
        get_hub_model(source("owner/none"), "model.source.id")


@pytest.mark.parametrize(
    ("kind", "architecture", "reason"),
    [
        ("t5", "T5ForConditionalGeneration", "encoder beside its decoder"),
        ("bart", "BartForConditionalGeneration", "encoder beside its decoder"),
        ("mistral3", "Mistral3ForConditionalGeneration", "AutoModelForCausalLM"),
        ("bert", "BertForMaskedLM", "holds the weights of BertForMaskedLM"),
        ("llama", "LlamaForSequenceClassification", "LlamaForSequenceClassification"),
    ],
)
def test_what_is_no_language_model_is_refused_by_its_configuration(
    folder, config, kind, architecture, reason
):
    write_json(folder / "config.json", {"model_type": kind, "architectures": [architecture]})
    model = config("model=hub", f"model.source.id={folder}").model
    with pytest.raises(UserError, match=rf"model\.source\.id .* of type '{kind}', .*{reason}"):
        get_base_tokenizer(model)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("gemma3", "Gemma3ForConditionalGeneration"),
        ("qwen3_5", "Qwen3_5ForConditionalGeneration"),
        ("llama", "LlamaForCausalLM"),
    ],
)
def test_a_language_model_passes_with_and_without_eyes(folder, config, kind, architecture):
    write_json(folder / "config.json", {"model_type": kind, "architectures": [architecture]})
    model = config("model=hub", f"model.source.id={folder}").model
    assert get_base_tokenizer(model).path == str(folder)
