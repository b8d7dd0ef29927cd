"""A template of Ollama is written only if it renders chats as the chat template does."""

import pytest

from tests.control_tokenizers import FAMILIES, QWEN3, make_bytes
from tests.tools.export.conftest import options
from tools.export.__main__ import export
from tools.export.go_template import NoTranslationError, list_chats, render_go, translate

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nBe SmolLM<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture
def chatml():
    tokenizer = make_bytes("qwen")

    def use(template):
        tokenizer.chat_template = template
        return tokenizer

    return use


def test_chatml_is_written_in_go(chatml):
    assert translate(chatml(SMOLLM), "Be short.", "") == (
        "{{ if not .System }}<|im_start|>system\nBe SmolLM<|im_end|>\n{{ end }}"
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n'
        '{{ .Content }}<|im_end|>\n{{ else if eq .Role "user" }}<|im_start|>user\n'
        '{{ .Content }}<|im_end|>\n{{ else if eq .Role "assistant" }}<|im_start|>assistant\n'
        "{{ .Content }}<|im_end|>\n{{ end }}{{ end }}<|im_start|>assistant\n"
    )


def test_an_empty_system_message_becomes_the_header_because_ollama_has_none(chatml):
    text = translate(chatml(SMOLLM), "", "")
    assert text.startswith("{{ if not .System }}<|im_start|>system\n<|im_end|>\n{{ end }}")


def test_a_thought_that_the_template_opens_is_part_of_the_answer(chatml):
    template = "{%- set enable_thinking = False %}" + QWEN3
    text = translate(chatml(template), None, "")
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_what_ollama_writes_itself_is_left_out(chatml):
    begun = "<s>" + SMOLLM
    assert "<s>" in translate(chatml(begun), None, "")
    text = translate(chatml(begun), None, "<s>")
    assert "<s>" not in text
    assert render_go(text, list_chats()[0]).startswith("<|im_start|>system\nBe SmolLM")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        # The system message is part of the first turn of the user.
        (
            "{% for m in messages %}{% if m.role == 'system' %}{% else %}<{{ m.role }}>"
            "{% if loop.index0 == 1 and messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
            "{{ m.content }}</>{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}",
            "depends on its neighbours",
        ),
        (SMOLLM.replace("message['content'] +", "message['content'] | trim | upper +"), "order"),
        (SMOLLM.replace("message['content'] +", "message['content'][:20] +"), "rendered otherwise"),
        (SMOLLM.replace("Be SmolLM", "Use {braces}} well"), "braces or quotes"),
        ("{{ raise_exception('no system message') }}", "no system message"),
    ],
)
def test_what_does_more_is_not_translated(chatml, template, said):
    with pytest.raises(NoTranslationError, match=said):
        translate(chatml(template), None, "")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_translated(family):
    assert "{{ range .Messages }}" in translate(make_bytes(family), None, "")


def test_the_modelfile_asks_as_was_evaluated(source, tmp_path, fake_converter):
    source.asked["system_prompt"] = "Be short."
    export(source, options("gguf"), tmp_path / "out")
    lines = (tmp_path / "out/Modelfile").read_text()
    assert lines.startswith('FROM ./tuneproof-chat-jsonl-1-f32.gguf\nTEMPLATE """')
    assert '\nSYSTEM """Be short."""\n' in lines
    assert lines.endswith(
        "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\nPARAMETER num_predict 8\n"
        'PARAMETER num_ctx 4096\nPARAMETER stop "<|im_end|>"\n'
    )


def test_without_a_translation_the_modelfile_says_why(
    source, tmp_path, fake_converter, monkeypatch
):
    def refuse(*_):
        raise NoTranslationError("it counts")

    monkeypatch.setattr("tools.export.modelfile.translate", refuse)
    proof = export(source, options("gguf"), tmp_path / "out")[-1]
    assert not proof.proved and "it counts" in proof.sentence
    assert "TEMPLATE" not in (tmp_path / "out/Modelfile").read_text()
