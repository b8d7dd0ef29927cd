"""The ends of answers with the templates of known families of models."""

import pytest
from transformers import GenerationConfig

from stages.core.data.end_tokens import get_end_ids, get_last_special, get_turn_end
from stages.core.data.prompts import (
    encode_prompt,
    encode_segments,
    encode_target,
    get_text_start,
    split_chat,
    split_record,
)
from stages.core.data.records import Record
from stages.core.models.base_models import ModelFiles, list_ids, read_end_ids
from stages.core.models.generation import add_end_tokens, end_tokens
from tests.control_tokenizers import make_bytes, with_begin

TURNS = [
    {"role": "user", "content": "q1"},
    {"role": "assistant", "content": "a1"},
    {"role": "user", "content": "q2"},
    {"role": "assistant", "content": "a2"},
]
# For each family the end of a turn, and whether it is `tokenizer.eos_token` there.
ENDS = {
    "qwen": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "llama": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "phi": "<|end|>",
}
EOS = {"gemma": "<eos>", "llama": "<|end_of_text|>", "phi": "<|endoftext|>"}


def make(name):
    """Make a tokenizer whose end token is the family's own."""
    made = make_bytes(name)
    if name in EOS:
        made.add_special_tokens({"eos_token": EOS[name]})
    if name == "phi":  # it ends a whole chat with its end token
        made.chat_template += "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    return made


def encode(tokenizer, messages):
    [example] = encode_segments(tokenizer, [split_chat(tokenizer, messages)])
    return example


def learned(tokenizer, example):
    return tokenizer.decode([token for token, counts in zip(*example, strict=True) if counts])


@pytest.mark.parametrize("name", ENDS)
def test_an_answer_ends_with_the_end_of_its_turn_and_nothing_more(name):
    tokenizer = make(name)
    end = ENDS[name]
    assert get_turn_end(tokenizer) == end
    record = Record.of(TURNS[:2])
    thought = "<think>\n\n</think>\n\n" if name == "qwen3" else ""
    space = " " if name == "mistral" else ""
    assert tokenizer.decode(encode_target(tokenizer, record)) == f"{thought}{space}a1{end}"
    assert get_end_ids(tokenizer) == set(
        tokenizer.convert_tokens_to_ids([end, tokenizer.eos_token])
    )


@pytest.mark.parametrize("name", [name for name in ENDS if name != "qwen3"])
def test_the_second_turn_is_learned_after_the_very_prompt_that_is_asked_later(name):
    tokenizer = make(name)
    example = encode(tokenizer, TURNS)
    asked = encode_prompt(tokenizer, TURNS[:3])
    assert example.ids[: len(asked)] == asked
    space = " " if name == "mistral" else ""
    assert learned(tokenizer, example) == f"{space}a1{ENDS[name]}{space}a2{ENDS[name]}"


def test_an_end_that_only_the_text_spells_does_not_end_the_answer():
    tokenizer = make("gemma")
    target = encode_target(tokenizer, Record.of([TURNS[0], {**TURNS[1], "content": "a <eos>"}]))
    assert tokenizer.decode(target) == "a <eos><end_of_turn>"
    control = set(tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"]))
    assert [token for token in target if token in control] == target[-1:]


def test_a_call_that_ends_with_another_token_keeps_it():
    tokenizer = make("llama")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eom_id|>", "<|eot_id|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}"
        "{{ '<|eom_id|>' if m.tool_calls else '<|eot_id|>' }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    call = {**TURNS[1], "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}
    segments = split_chat(tokenizer, [TURNS[0], call])
    assert segments[-1].text == "a1<|eom_id|>"
    assert get_last_special(tokenizer, segments[-1].text) == "<|eom_id|>"


def test_plain_text_begins_as_the_tokenizer_begins_texts_and_a_chat_has_one_begin_token():
    tokenizer = with_begin(make("gemma"), "<bos>")
    [bos] = get_text_start(tokenizer)
    prose = Record.of([{"role": "assistant", "content": "once <bos>"}], kind="text")
    [(ids, trained)] = encode_segments(tokenizer, [split_record(tokenizer, prose, None)])
    assert ids[0] == bos and ids.count(bos) == 1 and trained == [False] + [True] * (len(ids) - 1)
    assert tokenizer.decode(ids) == "<bos>once <bos><eos>"
    assert encode(tokenizer, TURNS).ids.count(bos) == 1
    assert encode_prompt(tokenizer, TURNS[:1]).count(bos) == 1
    assert get_text_start(make("gemma")) == get_text_start(make("qwen")) == []


class Model:
    def __init__(self, ends):
        self.generation_config = GenerationConfig(eos_token_id=ends)


def test_answers_end_at_all_end_tokens_and_a_model_that_is_shared_knows_them():
    tokenizer = make("gemma")
    turn, eos = tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"])
    assert end_tokens(Model([7]), tokenizer) == {turn, eos, 7}
    for before, after in (
        (None, {turn, eos}),
        (eos, {turn, eos}),
        ([7, turn, eos], {7, turn, eos}),
    ):
        model = Model(before)
        add_end_tokens(model, tokenizer)
        assert list_ids(model.generation_config.eos_token_id) == after
    complete = Model([turn, eos])
    add_end_tokens(complete, tokenizer)
    assert complete.generation_config.eos_token_id == [turn, eos]


def test_end_tokens_are_read_without_the_weights(tmp_path):
    files = ModelFiles(str(tmp_path), None, None)
    assert read_end_ids(files) == set()
    (tmp_path / "config.json").write_text('{"eos_token_id": 3}')
    assert read_end_ids(files) == {3}
    GenerationConfig(eos_token_id=[1, 106]).save_pretrained(tmp_path)
    assert read_end_ids(files) == {1, 106}
