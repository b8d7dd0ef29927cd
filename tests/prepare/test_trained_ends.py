"""Which tokens at the end of an answer `prepare` accepts."""

import pytest

from stages.core.data.records import Record
from stages.prepare.tokens import TokenCheck
from tests.control_tokenizers import make_bytes

CALL = {"function": {"name": "add", "arguments": {}}}
QUESTION = {"role": "user", "content": "1 + 1?"}
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{{ '<|eom_id|>' if m.tool_calls else '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}{# tools #}"
)


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer that has three ends: of a text, of a turn and of a call."""
    made = make_bytes("llama")
    special = ["<|eot_id|>", "<|eom_id|>"]
    made.add_special_tokens({"eos_token": "<|end_of_text|>", "additional_special_tokens": special})
    made.chat_template = TEMPLATE
    return made


def find(config, tokenizer, ends, **answer):
    record = Record.of([QUESTION, {"role": "assistant", "content": "", **answer}])
    check = TokenCheck(config(), tokenizer, tokenizer.convert_tokens_to_ids(ends))
    [(_, findings)] = check.look("train", [record], [("rows.jsonl", 1)])
    return [finding.code for finding in findings]


def test_an_answer_may_end_with_any_token_that_ends_the_models_answers(config, tokenizer):
    assert find(config, tokenizer, [], content="2") == []
    assert find(config, tokenizer, ["<|eom_id|>"], content="so", tool_calls=[CALL]) == []
    assert find(config, tokenizer, [], content="so", tool_calls=[CALL]) == ["no_end_token"]


def test_an_end_alone_is_no_answer(config, tokenizer):
    assert find(config, tokenizer, []) == ["no_trained_token"]
    assert find(config, tokenizer, ["<|eom_id|>"], tool_calls=[CALL]) == ["no_trained_token"]
