"""A GGUF export has the registered weights, template and tokens, and answers like the model."""

import json
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.core.data.prompts import encode_prompt
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.generation import generate
from tests.architectures import MATRIX
from tests.conftest import ROOT
from tests.tools.export.conftest import FAKES, copy_artifacts, options, proved
from tools.export import answers, converter, gguf, gguf_file
from tools.export.__main__ import export
from tools.export.converter_process import name_global_heads
from tools.export.llama_cpp import llama_cpp
from tools.export.tensors import compare_rounded, get_language_weights

TWO_DIMENSIONS = 16  # of the 21 tensors of the tiny model


@pytest.fixture(autouse=True)
def no_llama_cpp(monkeypatch):
    monkeypatch.setattr(answers, "is_installed", lambda: False)


@pytest.mark.parametrize(
    ("quantization", "found"),
    [
        (None, {"unchanged": 21}),
        ("f16", {"unchanged": 5, "f16": TWO_DIMENSIONS}),
        ("bf16", {"unchanged": 5, "bf16": TWO_DIMENSIONS}),
    ],
)
def test_a_file_has_the_registered_weights_template_and_tokens(
    source, tmp_path, fake_converter, quantization, found
):
    proofs = export(source, options("gguf", quantization=quantization), tmp_path / "out")
    expected = {"tensors": True, "template": True, "tokens": True, "answers": False}
    assert proved(proofs) == expected | {"Modelfile": True}
    assert proofs[0].numbers == {"tensors": 21, **found}
    assert "--group llama-cpp" in proofs[3].sentence
    file = f"tuneproof-chat-jsonl-1-{quantization or 'f32'}.gguf"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {file, "Modelfile", "README.md", "proof.json", "tuneproof.json"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("weights", "the GGUF file does not have the registered weights: 1 of 21 tensors differ"),
        ("template", "the GGUF file has another chat template than the registered model"),
        ("architecture", "does not know the architecture OddForCausalLM. Choose format=merged"),
        ("tokenizer", "does not know the tokenizer of this model"),
        ("vocabulary", "needs tokenizer.model for this architecture, which neither the version"),
        ("package", "needs sentencepiece, which is not installed: `pip install -c constraints.txt"),
        ("defect", "converter failed: ValueError: odd weights. Choose format=merged"),
        ("incomplete", "it does not find 1 of the weights, such as model.norm.weight"),
    ],
)
def test_what_is_wrong_with_a_conversion_is_said_in_one_sentence(
    source, tmp_path, fake_converter, monkeypatch, fault, said
):
    monkeypatch.setenv("FAKE_CONVERTER", fault)
    with pytest.raises(UserError) as error:
        export(source, options("gguf"), tmp_path / "out")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_vocabulary_of_sentencepiece_comes_from_the_base_model(
    source, tmp_path, fake_converter, monkeypatch
):
    (tmp_path / "tokenizer.model").write_bytes(b"pieces")
    monkeypatch.setenv("FAKE_CONVERTER", "vocabulary")
    monkeypatch.setattr(gguf, "find_base", lambda _: ModelFiles(str(tmp_path), None, None))
    assert export(source, options("gguf"), tmp_path / "out")[0].proved
    assert not (tmp_path / "out/tokenizer.model").exists()


def test_a_quantized_file_is_not_exported_unless_its_answers_can_be_checked(
    source, tmp_path, fake_converter, monkeypatch
):
    with pytest.raises(
        UserError, match=r"quantization=q8_0 changes the answers, .* --group llama-cpp"
    ):
        export(source, options("gguf", quantization="q8_0"), tmp_path / "out")
    monkeypatch.setattr(answers, "is_installed", lambda: True)
    monkeypatch.chdir(tmp_path)
    source = replace(source)  # without the rows that it has read
    with pytest.raises(
        UserError, match="the test rows on which the version was measured are neither"
    ):
        export(source, options("gguf", quantization="q8_0"), tmp_path / "out")


def test_a_classifier_has_no_gguf_file(source, tmp_path):
    source.asked["method"] = "sequence-classification"
    with pytest.raises(UserError, match=r"is a classifier, whose head llama\.cpp does not run"):
        export(source, options("gguf"), tmp_path / "out")


def test_no_code_of_a_model_reaches_the_converter(source, tmp_path, fake_converter, monkeypatch):
    """The converter would execute it."""
    changed = copy_artifacts(source, tmp_path / "changed")
    path = changed.folder / "components/tokenizer/tokenizer_config.json"
    code = {"auto_map": {"AutoTokenizer": "a/b--c.D"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | code))
    seen = {}

    def look(command, **others):
        folder = Path(command[3])
        seen["map"] = "auto_map" in (folder / "tokenizer_config.json").read_text()
        seen["offline"] = others["env"]["HF_HUB_OFFLINE"]
        raise UserError("looked")

    monkeypatch.setattr(converter.subprocess, "run", look)
    with pytest.raises(UserError, match="looked"):
        export(changed, options("gguf"), tmp_path / "out")
    assert seen == {"map": False, "offline": "1"}


@pytest.mark.parametrize(("kind", "left_out"), [("llama", False), ("qwen3_5_text", True)])
def test_the_converter_does_not_look_for_layers_that_draft(tmp_path, monkeypatch, kind, left_out):
    """transformers drops them from Qwen3.5, and without the option the converter fails."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    commands = []

    def run(command, **_):
        commands.append(command)
        (tmp_path / "model.gguf").write_bytes(b"")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(converter.subprocess, "run", run)
    monkeypatch.setattr(converter, "_get_path", lambda: "")
    converter.convert(tmp_path, "f32", "model", tmp_path / "model.gguf")
    assert [("--no-mtp" in command) for command in commands] == [left_out]


class Llama:
    """Answers like the registered model, or otherwise."""

    def __init__(self, source, wrong=(), prefix=()):
        self.source = source
        self.model = source.load_model()
        self.wrong = wrong
        self.prefix = list(prefix)
        self.asked = 0

    def tokenize(self, messages, tools):
        return [*self.prefix, *encode_prompt(self.source.tokenizer, messages, tools)]

    def complete(self, prompt, max_new_tokens):
        self.asked += 1
        limits = {"max_new_tokens": max_new_tokens, "max_batch_tokens": 4096, "title": None}
        if self.asked in self.wrong:
            return [5, 6, 7]
        return list(generate(self.model, self.source.tokenizer, [prompt], **limits)[0].ids)


@pytest.fixture
def answered_by(source, monkeypatch):
    def use(**faults):
        @contextmanager
        def started(file, context):
            assert file.exists() and context == source.asked["max_length"]
            yield Llama(source, **faults)

        monkeypatch.setattr(answers, "is_installed", lambda: True)
        monkeypatch.setattr(answers, "llama_cpp", started)

    return use


def test_equal_answers_prove_a_file_of_the_own_type(source, tmp_path, fake_converter, answered_by):
    answered_by()
    proofs = export(source, options("gguf", sample=4), tmp_path / "out")
    assert (
        proved(proofs)["prompts"] and proved(proofs)["answers"] and "metric" not in proved(proofs)
    )
    assert {proof.what: proof.numbers for proof in proofs}["answers"] == {"rows": 4, "equal": 4}


def test_other_prompts_are_refused(source, tmp_path, fake_converter, answered_by):
    answered_by(prefix=[0])
    with pytest.raises(UserError, match=r"llama\.cpp gives other token ids for 10 of 10 test rows"):
        export(source, options("gguf"), tmp_path / "out")


@pytest.mark.parametrize(("quantization", "wrong"), [("q8_0", ()), (None, (1,))])
def test_the_metric_decides_if_answers_may_differ(
    source, tmp_path, fake_converter, answered_by, quantization, wrong
):
    """Ten rows, all wrong before and after: their bound alone is -0.2."""
    answered_by(wrong=wrong)
    given = {"quantization": quantization, "sample": 4}
    with pytest.raises(UserError, match=r"max_drift=0.02 requires at least -0.020, so nothing was"):
        export(source, options("gguf", **given), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    proofs = export(source, options("gguf", **given, max_drift=0.5), tmp_path / "out")
    metric = next(proof for proof in proofs if proof.what == "metric")
    assert metric.proved and metric.numbers["equal"] == 10
    assert -0.5 < metric.numbers["bound_low"] < metric.numbers["difference"] == 0
    answered = next(proof for proof in proofs if proof.what == "answers")
    assert answered.proved == (not wrong)


def test_every_tensor_has_to_be_rounded_as_the_type_says():
    weights = torch.linspace(-1, 1, 64).view(2, 32) / 3
    half = weights.to(torch.float16).float()
    assert compare_rounded({"a": weights}, {"a": half}, "f16", "it") == {"f16": 1}
    for quantization in ("f32", "bf16"):
        with pytest.raises(UserError, match="1 of 1 tensors differ, such as a"):
            compare_rounded({"a": weights}, {"a": half}, quantization, "it")
    with pytest.raises(UserError, match="tensors differ"):
        compare_rounded({"a": weights, "b": weights}, {"a": weights}, "f32", "it")
    norm = weights[0] / 7
    read = (norm + 1) - 1
    assert not torch.equal(norm, read)
    assert compare_rounded({"norm": norm}, {"norm": read}, "bf16", "it").total() == 1


def test_what_passed_through_a_logarithm_may_differ_in_the_last_digits():
    decay = torch.linspace(-3, 3, 64) / 7
    read = torch.from_numpy(np.log(torch.exp(decay).numpy()))
    assert not torch.equal(decay, read)
    name = "layers.0.linear_attn.A_log"
    found = compare_rounded({name: decay}, {name: read}, "f32", "it")
    assert found == {"unchanged but for a logarithm": 1}
    for wrong in ({"a": read}, {name: read + 1e-5}):
        with pytest.raises(UserError, match="1 of 1 tensors differ"):
            compare_rounded(dict.fromkeys(wrong, decay), wrong, "f32", "it")


def test_a_file_has_the_language_model_of_a_model_that_reads_images():
    found = {each.name: each for each in MATRIX}
    both = found["Gemma 3 with images"].build()
    alone = found["Gemma 3"].build()
    weights = get_language_weights(both)
    assert weights.keys() == alone.state_dict().keys()
    inner = both.state_dict()["model.language_model.norm.weight"]
    assert torch.equal(weights["model.norm.weight"], inner)
    assert get_language_weights(alone).keys() == alone.state_dict().keys()


@pytest.mark.parametrize(
    ("registered", "said"),
    [("Gemma 3", "tensors, read"), ("Gemma 3 with images", "tensors of the language model, read")],
)
def test_the_proof_says_which_tensors_a_file_has(monkeypatch, registered, said):
    found = {each.name: each for each in MATRIX}
    model = found[registered].build()
    read = found["Gemma 3"].build()
    read.load_state_dict(get_language_weights(model))
    monkeypatch.setattr(gguf_file, "read_gguf_model", lambda _: read)
    proof = gguf_file._check_tensors(SimpleNamespace(load_model=lambda: model), Path(), "f32")
    assert proof.proved and said in proof.sentence


@pytest.mark.parametrize(
    ("layers", "heads"),
    [
        ({}, (8, None)),
        ({5: {"head_dim": 16}}, (16, None)),
        ({5: {"head_dim": 16, "num_key_value_heads": 1}}, (16, 1)),
    ],
)
def test_the_converter_finds_the_heads_of_gemma_4(layers, heads):
    settings = {"head_dim": 8, "per_layer_config": layers}
    name_global_heads(settings)
    assert (settings["global_head_dim"], settings["num_global_key_value_heads"]) == heads
    others = {"head_dim": 8}
    name_global_heads(others)
    assert others == {"head_dim": 8}


def test_the_server_runs_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), str(ROOT)]))
    monkeypatch.chdir(tmp_path)
    with llama_cpp(tmp_path / "a.gguf", 128) as server:
        chat = [{"role": "user", "content": "ab"}]
        assert server.tokenize(chat, ()) == [97, 98]
        assert server.complete([1, 2, 3], 2) == [1, 2]
    for fault, said in (
        ("refuse", "llama.cpp's server refuses /completion: .*too long"),
        ("abort", "llama.cpp's server stopped responding"),
        ("load", "llama.cpp does not load the file: .*Failed to init server"),
    ):
        monkeypatch.setenv("FAKE_LLAMA_CPP", fault)
        with (
            pytest.raises(UserError, match=f"(?s){said}"),
            llama_cpp(tmp_path / "a.gguf", 128) as server,
        ):
            server.complete([1], 1)
