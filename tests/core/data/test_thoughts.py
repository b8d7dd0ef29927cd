import pytest

from stages.core.data.thoughts import read_answer
from stages.core.inference.asking import ask
from stages.core.inference.general import _ask_items, read_items
from stages.core.models.generation import Answer
from tests.conftest import chat
from tests.control_tokenizers import make_bytes

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
