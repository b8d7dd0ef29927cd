"""A local model folder that a disk or a download has damaged."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from stages.core.config.model import HubSource
from stages.core.errors import UserError
from stages.core.failures import explain_system
from stages.core.models.base_models import get_base_tokenizer, get_hub_model
from stages.core.models.loading import get_model, get_tokenizer
from stages.core.models.model_folder import INDEX, WEIGHTS
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.core.storage.cache import LIST
from stages.core.storage.files import read_json, sha256_file, sha256_json, write_json
from stages.prepare.__main__ import main
from tests.conftest import TINY, compose_config
from tests.prepare.rows import write

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
LAST = "model.norm.weight"


@pytest.fixture
def folder(base, tmp_path):
    shutil.copytree(base.path, tmp_path / "model")
    (tmp_path / "model" / LIST).unlink()
    return tmp_path / "model"


@pytest.fixture
def sharded(folder):
    """Split the weights of the folder in two files."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {name: SHARDS[name == LAST] for name in weights}
    for shard in SHARDS:
        of_shard = {name: weights[name] for name, place in places.items() if place == shard}
        save_file(of_shard, folder / shard, {"format": "pt"})
    write_json(folder / INDEX, {"metadata": {}, "weight_map": places})
    return folder


def find(folder):
    fields = {"kind": "hub", "revision": None, "trust_remote_code": False}
    return get_hub_model(HubSource(id=str(folder), **fields), "model.source.id")


def load(folder):
    base = find(folder)
    get_tokenizer(base)
    return get_model(base, "float32")


def cut(path):
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path, **values):
    write_json(path, read_json(path) | values)


def edit_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def is_refused(folder, said):
    """Whether the folder is refused with a message that says so and names the key."""
    with pytest.raises(UserError, match=rf"^model\.source\.id\b.*{said}") as caught:
        load(folder)
    return "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b'{"a": 1, "b', "is not valid JSON"),
        (bytes(500), "is not valid JSON"),
        (bytes(range(256)), "is not a text in UTF-8"),
        (b"[1]", "has no JSON object, but a list"),
        (POINTER.encode(), "is a pointer of Git LFS, not the file itself. Run `git lfs pull`"),
    ],
)
def test_a_damaged_json_file_is_named(folder, name, content, said):
    (folder / name).write_bytes(content)
    assert is_refused(folder, f"/{name} {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"/chat_template\.jinja is empty"),
        (bytes(range(256)), r"/chat_template\.jinja is not a text in UTF-8"),
        (POINTER.encode(), r"/chat_template\.jinja is a pointer of Git LFS"),
    ],
)
def test_a_damaged_chat_template_is_named(folder, content, said):
    (folder / "chat_template.jinja").write_bytes(content)
    assert is_refused(folder, said)


def test_a_cut_chat_template_is_found_before_any_row(folder):
    (folder / "chat_template.jinja").write_text("{% for message in messages %}\n{{ mess")
    with pytest.raises(UserError, match="template is broken in line 2: unexpected end of template"):
        load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", WEIGHTS, "config.json"])
def test_links_that_lead_nowhere_are_named(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to("../blobs/0")
    assert is_refused(folder, rf"/{name} links to a file that does not exist")
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    with pytest.raises(OSError) as caught:  # which every process explains
        load(folder)
    assert f"/{name}. Remove the symbolic links" in str(explain_system(caught.value))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", [*FILES, WEIGHTS, "chat_template.jinja"])
def test_a_file_that_may_not_be_read_is_named(folder, name):
    (folder / name).chmod(0)
    with pytest.raises(PermissionError) as caught:
        load(folder)
    assert f"/{name}. Give your user the right" in str(explain_system(caught.value))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "is not a whole file of safetensors"),
        (bytes(range(256)), "is not a whole file of safetensors"),
        (POINTER.encode(), "is a pointer of Git LFS"),
    ],
)
def test_weights_that_are_something_else_are_named(folder, content, said):
    (folder / WEIGHTS).write_bytes(content)
    assert is_refused(folder, rf"/model\.safetensors {said}")


def test_cut_weights_are_found_by_their_header(folder):
    cut(folder / WEIGHTS)
    assert is_refused(folder, r"/model\.safetensors is not a whole file of safetensors")


def test_other_formats_of_weights_are_refused(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    assert is_refused(folder, r"/model\.safetensors does not exist.*a pickle can execute code")


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_an_adapter_is_not_a_base_model(folder, name):
    (folder / name).unlink()
    write_json(folder / "adapter_config.json", {"peft_type": "LORA"})
    assert is_refused(folder, r"has an adapter \(adapter_config\.json\).*Name its base model")


def test_shards_load_and_have_a_hash(sharded):
    digests = [sha256_file(sharded / shard) for shard in SHARDS]
    assert find(sharded).sha256 == sha256_json(digests)
    assert load(sharded).config.hidden_size == 32


def test_a_damaged_shard_is_named(sharded):
    cut(sharded / SHARDS[1])
    assert is_refused(sharded, f"/{SHARDS[1]} is not a whole file of safetensors")
    (sharded / SHARDS[1]).write_text(POINTER)
    assert is_refused(sharded, f"/{SHARDS[1]} is a pointer of Git LFS")
    (sharded / SHARDS[1]).unlink()
    assert is_refused(sharded, f"/{SHARDS[1]} does not exist.*names 2 files.*missing: 1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"metadata": {}, "weig', "is not valid JSON"),
        ("", "is empty"),
        (POINTER, "is a pointer of Git LFS"),
        ("[]", "has no JSON object"),
        ("{}", "has no `weight_map`"),
        ('{"metadata": {}, "weight_map": [1]}', "has no `weight_map`"),
        ('{"metadata": {}, "weight_map": {"a": "b"}}', "names 1 files of weights; missing: 1"),
        (None, "does not exist, but it names the shards"),
    ],
)
def test_a_damaged_index_is_named(sharded, content, said):
    (sharded / INDEX).unlink()
    if content is not None:
        (sharded / INDEX).write_text(content)
    assert is_refused(sharded, rf".*model\.safetensors\.index\.json {said}")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_hidden_layers": 3}, r": 9, such as model\.layers\.2\.\S+, which is missing"),
        ({"vocab_size": 300}, r": 2, such as lm_head.weight, which has the shape \[258, 32\] inst"),
        ({"model_type": "bert"}, r"such as bert\.\S+, which is missing"),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(folder, values, said):
    edit(folder / "config.json", **values)
    with pytest.raises(UserError, match=rf"/model: weights that do not fit config\.json.*{said}"):
        load(folder)


def test_a_missing_weight_is_not_drawn_at_random_and_one_too_many_is_said(folder, caplog):
    edit_weights(folder, lambda weights: weights.update(extra=weights[LAST]))
    load(folder)
    assert "not used: 1, such as extra" in caplog.text
    edit_weights(folder, lambda weights: weights.pop(LAST))
    with pytest.raises(UserError, match=rf"config\.json: 1, such as {LAST}, which is missing"):
        load(folder)


def test_a_new_head_on_a_damaged_body_is_refused(folder):
    kind = "AutoModelForSequenceClassification"
    assert get_model(find(folder), "float32", kind=kind).score
    edit_weights(folder, lambda weights: weights.pop(LAST))
    with pytest.raises(UserError, match=rf"config\.json: 1, such as {LAST}, which is missing"):
        get_model(find(folder), "float32", kind=kind)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_attention_heads": 3}, "not a multiple of the number of attention heads"),
        ({"hidden_size": "big"}, "expected int, got str"),
        ({"model_type": "unheard"}, "model type `unheard`"),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(folder, values, said):
    edit(folder / "config.json", **values)
    assert is_refused(folder, rf"{said}.*Correct config\.json")


def test_numbers_that_only_python_writes_are_read(folder, config):
    values = read_json(folder / "config.json") | {"time_step_limit": [0.0, float("inf")]}
    (folder / "config.json").write_text(json.dumps(values))
    model = config("model=hub", f"model.source.id={folder}").model
    assert get_model_dimensions(model, get_base_tokenizer(model)).hidden == 32


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), r"ValueError: .*tokenizer\.json"),
        (lambda folder: write_json(folder / "tokenizer.json", {}), r"KeyError: .*tokenizer\.json"),
        (
            lambda folder: edit(folder / "tokenizer_config.json", tokenizer_class=3),
            "AttributeError: ",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_loaded_is_refused(folder, damage, said):
    damage(folder)
    with pytest.raises(UserError, match=rf"/model: the tokenizer cannot be loaded: {said}"):
        load(folder)


def test_a_tokenizer_without_its_settings_says_which_files_to_check(folder):
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match=r"has no end token.*that .*tokenizer_config\.json are th"):
        load(folder)


def test_a_path_without_a_folder_is_not_looked_up_on_the_hub(folder):
    assert is_refused(folder / "nowhere", "there is no such folder")
    assert is_refused("~/nowhere", "there is no such folder.*instead of `~`")
    assert is_refused(folder / "config.json", "is not a folder")


def test_prepare_ends_before_it_writes_anything(workspace, folder):
    write(workspace / "rows.jsonl", *[{"prompt": f"q{n}", "completion": "a"} for n in range(20)])
    cut(folder / WEIGHTS)
    before = sorted(workspace.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(compose_config(*TINY, "model=hub", f"model.source.id={folder}", "tracking=disabled"))
    assert str(stop.value).startswith("\nprepare: model.source.id: ")
    written = {path for path in workspace.rglob("*") if path not in before and path.is_file()}
    assert {path.relative_to(workspace) for path in written} == {Path(".tuneproof/stage.lock")}
