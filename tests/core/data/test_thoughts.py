import pytest

from stages.core.data.prompts import build_prompt, encode_prompt, encode_target
from stages.core.data.thoughts import decode_answer, read_answer
from stages.core.inference.asking import ask
from stages.core.inference.general import _ask_items, read_items
from stages.core.models.generation import Answer
from tests.conftest import chat
from tests.control_tokenizers import FAMILIES, THINKING, make_bytes

OPEN = "assistant\n<think>\n"
CLOSED = "assistant\n<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def tokenizer():
    return make_bytes("qwen3")


@pytest.mark.parametrize(
    ("prompt", "text", "answer"),
    [
        (CLOSED, "NUM", "NUM"),
        ("assistant\n", "<think>\nHm.\n</think>\n\nNUM", "NUM"),
        (OPEN, "Hm.\n</think>\n\nNUM", "NUM"),
        (OPEN, "Hm. NUM", ""),  # cut within the thought
        ("assistant\n", "<think>\nHm. NUM", ""),
        ("assistant\n", "NUM </think>", "NUM </think>"),  # no thought stands before it
    ],
)
def test_the_thought_before_an_answer_does_not_count(tokenizer, prompt, text, answer):
    ids = tokenizer(prompt).input_ids
    assert read_answer(tokenizer, ids, text) == answer
    assert read_answer(tokenizer, ids, text, "<think>\nHm.\n</think>\n\nNUM") == text
    plain = make_bytes("qwen3")
    plain.chat_template = "{{ messages[0].content }}"
    assert read_answer(plain, ids, text) == text


FINAL = "<|channel|>final<|message|>"
THOUGHT = "<|channel|>analysis<|message|>Say NUM?<|end|><|start|>assistant"


@pytest.mark.parametrize(
    ("name", "written", "answer"),
    [
        ("gpt-oss", f"{FINAL}NUM<|return|>", "NUM"),
        ("gpt-oss", f"{THOUGHT}{FINAL} 1 < 2 <|return|>", " 1 < 2 "),
        ("gpt-oss", THOUGHT, ""),  # cut within the thought
        ("gpt-oss", "NUM<|return|>", ""),  # said in no channel
        ("special thoughts", "<think>\nHm.\n</think>\n\nNUM<|im_end|>", "NUM"),
        ("special thoughts", "Hm.\n</think>\n\nNUM<|im_end|>", "NUM"),
        ("special thoughts", "<think>\nHm.", ""),
        ("qwen3", "<think>\nHm.\n</think>\n\nNUM<|im_end|>", "<think>\nHm.\n</think>\n\nNUM"),
    ],
)
def test_an_answer_after_control_tokens_is_found(name, written, answer):
    tokenizer = make_bytes(name)
    ids = tokenizer(written, add_special_tokens=False).input_ids
    text = decode_answer(tokenizer, ids)
    assert text == answer
    if name != "qwen3":  # whose thoughts are plain text, which `read_answer` drops
        assert read_answer(tokenizer, tokenizer(OPEN).input_ids, text) == answer


@pytest.mark.parametrize("name", [*FAMILIES, *THINKING])
def test_what_is_learned_is_read_back_as_the_target(name):
    """Of whatever family. Of gpt-oss the text would be `finalNUM` without its control tokens."""
    tokenizer = make_bytes(name)
    record = chat("Is it?", "NUM")
    prompt = encode_prompt(tokenizer, build_prompt(record, None))
    ids = encode_target(tokenizer, record)
    assert read_answer(tokenizer, prompt, decode_answer(tokenizer, ids)).strip() == "NUM"


class Thinker:
    """An engine whose model thinks, and never ends its second thought."""

    def generate(self, prompts, **_):
        texts = ["<think>\nHm.\n</think>\n\nnumber 1", "<think>\nnumber 2"]
        return [
            Answer(texts[i % 2], len(prompt), 8, 0.1, cut=bool(i % 2))
            for i, prompt in enumerate(prompts)
        ]


def test_arms_and_the_general_suite_are_scored_without_thoughts(tokenizer, config):
    rows = [chat("Say 1.", "number 1"), chat("Say 2.", "number 2")]
    answers = ask("zero_shot", Thinker(), tokenizer, config(), rows, None)
    assert [(answer.text, answer.cut) for answer in answers] == [("number 1", False), ("", True)]
    items = read_items()[:2]
    assert list(_ask_items(Thinker(), tokenizer, items, [], "").values()) == ["number 1", ""]
