import json
from dataclasses import replace
from pathlib import Path

import pytest

from stages.core.data.prompts import encode_prompt, encode_segments, split_chat, split_user_turn
from stages.core.data.template_arguments import list_arguments, set_arguments
from stages.core.data.templates import TemplateError
from stages.core.errors import UserError
from stages.core.models.base_models import get_base_model, get_base_tokenizer
from stages.core.models.loading import get_tokenizer
from stages.train.monitoring.checkpoints import training_fingerprint
from tests.control_tokenizers import QWEN3, make_bytes

ASKED = [{"role": "user", "content": "What is 2 + 2?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "4"}]
UNTHOUGHT = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
ODD = (  # it sets an argument of its own, and reads arguments in macros, loops and conditions
    "\n {% set effort = effort | default('high') %}"
    "{% macro show(it) %}{{ effort }}:{{ it | tojson }}{{ extra }}{% endmacro %}"
    "{% for m in messages %}{% if flag is not defined or flag %}{{ show(m.content) }}{% endif %}"
    "{% endfor %}"
)
VALUES = (False, True, None, 3, -0.5, "low", 'it\'s "%}" {{ é \U0001f600 \n', [1, {"a": None}])


@pytest.mark.parametrize("template", [QWEN3, ODD])
def test_a_template_with_its_arguments_renders_as_one_that_is_given_them(template):
    tokenizer = make_bytes("qwen3")
    for name in list_arguments(template):
        for value in VALUES:
            for chat in (ASKED, ANSWERED):
                given, written = (
                    tokenizer.apply_chat_template(
                        chat,
                        chat_template=text,
                        tokenize=False,
                        add_generation_prompt=chat is ASKED,
                        **arguments,
                    )
                    for text, arguments in (
                        (template, {name: value}),
                        (set_arguments(template, {name: value}), {}),
                    )
                )
                assert written == given


def test_the_arguments_of_a_template_are_those_that_it_does_not_make_itself():
    assert list_arguments(ODD) == {"effort", "extra", "flag"}
    assert list_arguments(QWEN3) == {"enable_thinking"}


def test_an_argument_that_no_template_reads_is_refused_with_those_that_it_reads():
    with pytest.raises(UserError, match=r"kwargs.enable_thinkin: .*It reads enable_thinking\."):
        set_arguments(QWEN3, {"enable_thinkin": False})
    several = {"default": QWEN3, "tool_use": "{{ messages[0].content }}"}
    written = set_arguments(several, {"enable_thinking": False})
    assert written["tool_use"] == several["tool_use"] and written["default"].endswith(QWEN3)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("messages=1", "messages: Tuneproof passes this to the template itself"),
        ("add_generation_prompt=true", "add_generation_prompt: Tuneproof passes this"),
        ("bos_token=x", "bos_token: Tuneproof passes this"),
        ("limit=inf", "limit.float: should be a finite number"),
    ],
)
def test_what_tuneproof_passes_cannot_be_set(config, override, said):
    with pytest.raises(UserError, match=rf"model\.chat_template_kwargs.*{said}"):
        config(f"+model.chat_template_kwargs.{override}")


@pytest.fixture
def thinking(config, workspace):
    """Compose a configuration with a thinking template that is told not to think."""
    Path("thinking.jinja").write_text(QWEN3)
    given = ("model.chat_template=thinking.jinja",)
    return config(*given, "+model.chat_template_kwargs.enable_thinking=false")


def test_training_and_generation_render_with_the_file_and_its_arguments(thinking):
    base = get_base_model(thinking.model, 42)
    for files in (base, get_base_tokenizer(thinking.model)):
        tokenizer = get_tokenizer(files)
        asked = encode_prompt(tokenizer, ASKED)
        assert tokenizer.decode(asked).endswith(UNTHOUGHT)
        [example] = encode_segments(tokenizer, [split_chat(tokenizer, ANSWERED)])
        assert example.ids[: len(asked)] == asked
        assert tokenizer.decode(example.ids[len(asked) :]) == "4<|im_end|>"
        assert split_user_turn(tokenizer)[1].endswith(UNTHOUGHT)


def test_a_saved_tokenizer_needs_no_arguments_and_obeys_no_others(thinking, tmp_path):
    tokenizer = get_tokenizer(get_base_tokenizer(thinking.model))
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = get_tokenizer(
        replace(get_base_tokenizer(thinking.model), path=str(tmp_path / "saved"))
    )
    plain = type(tokenizer).from_pretrained(tmp_path / "saved")
    for arguments in ({}, {"enable_thinking": True}):
        ids = plain.apply_chat_template(ASKED, add_generation_prompt=True, **arguments)
        assert ids["input_ids"] == encode_prompt(tokenizer, ASKED) == encode_prompt(loaded, ASKED)


def test_without_a_file_and_arguments_the_template_stays_as_it_is(config):
    base = get_base_tokenizer(config().model)
    config_file = json.loads((Path(base.path) / "tokenizer_config.json").read_text())
    template = Path(base.path, "chat_template.jinja").read_text()
    assert get_tokenizer(base).chat_template == template
    assert "chat_template" not in config_file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"model.chat_template=given.jinja: .*No such file.* or null"),
        ("{% for %}", r"chat template is broken in line 1: Expected an expression"),
        ("\xff", r"model.chat_template=given.jinja: .*codec can't decode.* or null"),
    ],
)
def test_a_file_that_is_no_template_is_refused(config, workspace, text, said):
    if text:
        Path("given.jinja").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=said):
        get_tokenizer(get_base_tokenizer(config("model.chat_template=given.jinja").model))


def test_a_changed_template_trains_anew_and_a_moved_file_does_not(config, workspace):
    def fingerprint(text, name="one.jinja"):
        Path(name).write_text(text)
        checked = config(f"model.chat_template={name}")
        return training_fingerprint(checked, get_base_model(checked.model, 42), 42)

    assert fingerprint(QWEN3) != fingerprint(f"{QWEN3} ")
    assert fingerprint(QWEN3) == fingerprint(QWEN3, "two.jinja")


DROPS = (  # as templates that drop the thought of an answered chat do
    "{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant:"
    "{% if FLAG %}<think>\\n{% endif %}{% endif %}"
)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("thinking | default(true)", r"set \+model.chat_template_kwargs.thinking=false\."),
        ("not keep", r"set \+model.chat_template_kwargs.keep=true\."),
        ("1", "Give a template that renders both alike as model.chat_template, or choose"),
    ],
)
def test_a_template_that_drops_thoughts_is_refused_with_the_argument_that_helps(flag, said):
    tokenizer = make_bytes("qwen3")
    tokenizer.chat_template = DROPS.replace("FLAG", flag)
    with pytest.raises(TemplateError, match=rf"differently once the chat is(.|\n)*{said}"):
        split_chat(tokenizer, ANSWERED)
    assert tokenizer.chat_template == DROPS.replace("FLAG", flag)
    name, _, value = said.rpartition("kwargs.")[2].removesuffix("\\.").partition("=")
    if value:
        tokenizer.chat_template = set_arguments(tokenizer.chat_template, {name: value == "true"})
        assert split_chat(tokenizer, ANSWERED)[-1].text == "4<|im_end|>"


def test_dvc_watches_the_file(config):
    assert config("model.chat_template=a.jinja").model.dvc_dependency == "a.jinja"
    assert config().model.dvc_dependency == "LICENSE"
