"""The pieces of a streamed answer, joined, are the text that evaluation reads."""

import pytest

from services.serve.answer_text import AnswerText
from tests.control_tokenizers import QWEN3


class Letters:
    """A tokenizer whose tokens are texts."""

    all_special_tokens = ()
    clean_up_tokenization_spaces = False

    def __init__(self, texts, template=None):
        self.texts = texts
        self.chat_template = template

    def decode(self, ids, skip_special_tokens=False):
        text = "".join(self.texts[i] for i in ids)
        return text.replace(" n't", "n't") if self.clean_up_tokenization_spaces else text


def pieces(tokenizer, stops=()):
    reader = AnswerText(tokenizer, [], stops)
    found = []
    for i in range(1, len(tokenizer.texts) + 1):
        found.append(reader.update(range(i), finished=i == len(tokenizer.texts)))
        if reader.stopped:
            break
    assert "".join(found) == reader.text
    return found


def test_text_is_sent_as_it_comes():
    assert pieces(Letters(["a", "b ", "c"])) == ["a", "b ", "c"]


@pytest.mark.parametrize(
    ("texts", "stops", "expected"),
    [
        (["ab", "c", "d"], ["cd"], ["ab", "", ""]),
        (["ab", "c", "e"], ["cd"], ["ab", "", "ce"]),
        (["x\n", "\n", "y"], ["\n\n"], ["x", ""]),
        (["abc", "d"], ["b", "c"], ["a"]),
        (["aab", "c"], ["aabb"], ["", "aabc"]),
    ],
)
def test_what_may_begin_a_stop_text_is_held_back(texts, stops, expected):
    assert pieces(Letters(texts), stops) == expected


def test_half_a_character_is_held_back():
    tokens = Letters(["a", "�", ""])
    tokens.decode = lambda ids, skip_special_tokens=False: ["a", "a�", "aé"][len(ids) - 1]
    assert pieces(tokens) == ["a", "", "é"]


def test_what_a_clean_up_changes_is_held_back():
    tokens = Letters(["do", " n", "'t", " go"])
    tokens.clean_up_tokenization_spaces = True
    assert pieces(tokens) == ["", "do", "", "n't go"]


def test_a_thought_is_not_part_of_the_answer(monkeypatch):
    from services.serve import answer_text

    monkeypatch.setattr(answer_text, "get_header", lambda tokenizer: "")
    monkeypatch.setattr(answer_text, "decode_answer", lambda tokenizer, ids: tokenizer.decode(ids))
    monkeypatch.setattr("stages.core.data.thoughts.get_header", lambda tokenizer: "")
    tokens = Letters(["<th", "ink>a", "b</think>", "\n\nc", "d"], QWEN3)
    assert pieces(tokens) == ["", "", "", "c", "d"]
    assert pieces(Letters(["<t", "able>"], QWEN3)) == ["", "<table>"]
