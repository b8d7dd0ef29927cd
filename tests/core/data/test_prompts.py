import pytest

from stages.baseline.retrieval import BM25Index
from stages.core.data.prompts import (
    build_prompt,
    encode_prompt,
    encode_segments,
    split_chat,
    split_record,
)
from stages.core.data.records import Record
from stages.core.data.templates import TemplateError
from stages.core.models.loading import get_tokenizer
from tests.conftest import chat


@pytest.fixture
def tokenizer(base):
    return get_tokenizer(base)


def encode(tokenizer, messages, **rest):
    [example] = encode_segments(tokenizer, [split_chat(tokenizer, messages, **rest)])
    return example


def learned(tokenizer, example):
    return tokenizer.decode([token for token, counts in zip(*example, strict=True) if counts])


def test_training_sees_the_very_prompt_that_is_asked(tokenizer):
    record = chat("question", "answer", "long")
    [(ids, trained)] = encode_segments(tokenizer, [split_record(tokenizer, record, "short")])
    asked = encode_prompt(tokenizer, build_prompt(record, "short"))
    assert (
        ids[: len(asked)] == asked and not any(trained[: len(asked)]) and all(trained[len(asked) :])
    )
    assert tokenizer.decode(ids[len(asked) :]) == "answer<|im_end|>"


TURNS = [
    {"role": "user", "content": "q1"},
    {"role": "assistant", "content": "a1"},
    {"role": "user", "content": "q2"},
    {"role": "assistant", "content": "a2"},
]


def test_every_answer_is_trained_but_those_of_weight_0(tokenizer):
    assert learned(tokenizer, encode(tokenizer, TURNS)) == "a1<|im_end|>a2<|im_end|>"
    lighter = [TURNS[0], {**TURNS[1], "weight": 0}, *TURNS[2:]]
    assert learned(tokenizer, encode(tokenizer, lighter)) == "a2<|im_end|>"
    assert encode(tokenizer, lighter).ids == encode(tokenizer, TURNS).ids


def test_an_answer_that_the_template_changes_later_is_not_trained(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ 'thought ' if m.role == 'assistant' and loop.last }}{{ m.content }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert learned(tokenizer, encode(tokenizer, TURNS)) == "thought a2<|im_end|>"


def test_a_template_that_changes_the_prompt_is_refused(tokenizer):
    tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(TemplateError, match="renders the prompt differently once the chat is"):
        encode(tokenizer, TURNS)


def test_a_template_that_refuses_a_chat_says_why(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(TemplateError, match="no system role here"):
        encode(tokenizer, TURNS)


def test_a_template_without_an_end_of_turn_still_teaches_to_stop(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    example = encode(tokenizer, TURNS)
    assert example.ids[-1] == tokenizer.eos_token_id and example.trained[-1]
    # The prompt that is asked later has no end token after the first answer either.
    asked = encode_prompt(tokenizer, TURNS[:3])
    assert example.ids[: len(asked)] == asked
    assert learned(tokenizer, example).count("<|im_end|>") == 1


def test_tools_reach_the_template(tokenizer):
    tokenizer.chat_template = (
        "{{ tools | tojson if tools }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    tool = {"type": "function", "function": {"name": "add"}}
    assert '"add"' in tokenizer.decode(encode(tokenizer, TURNS, tools=[tool]).ids)


def test_a_prompt_has_nothing_to_train_and_prose_is_trained_whole(tokenizer):
    asked = Record.of(TURNS[:1], kind="prompt")
    assert not any(encode_segments(tokenizer, [split_record(tokenizer, asked, None)])[0].trained)
    prose = Record.of([{"role": "assistant", "content": "once upon"}], kind="text")
    [(ids, trained)] = encode_segments(tokenizer, [split_record(tokenizer, prose, "short")])
    assert tokenizer.decode(ids) == "once upon<|im_end|>" and all(trained)


def test_shots_stand_between_the_instruction_and_the_question():
    record = chat("q", "a", "own")
    shot = chat("q1", "a1", "other")
    roles = [(m["role"], m["content"]) for m in build_prompt(record, "new", [shot])]
    assert roles == [("system", "new"), ("user", "q1"), ("assistant", "a1"), ("user", "q")]
    assert build_prompt(record, None)[0]["content"] == "own"


def test_a_question_in_the_system_message_is_not_lost():
    record = Record.of(
        [{"role": "system", "content": "How many?"}, {"role": "assistant", "content": "3"}]
    )
    assert build_prompt(record, "new") == record.prompt


def test_retrieval_puts_the_most_similar_row_last():
    train = [
        chat("red apple pie", "1"),
        chat("blue sky", "2"),
        chat("red apple", "3"),
        chat("green grass", "4"),
    ]
    found = BM25Index(train).search([chat("a red apple pie", "?")], 2)[0]
    assert [record.target for record in found] == ["3", "1"]


def test_retrieval_gives_what_there_is():
    assert len(BM25Index([chat("one", "1")]).search([chat("two", "?")], 5)[0]) == 1
