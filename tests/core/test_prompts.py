import pytest

from stages.core.errors import UserError
from stages.core.models import get_tokenizer
from stages.core.prompts import build_prompt, encode_example, encode_prompt
from stages.core.retrieval import Retriever
from tests.conftest import chat


@pytest.fixture
def tokenizer(base):
    return get_tokenizer(base)


def test_training_sees_the_very_prompt_that_is_asked(tokenizer):
    prompt = build_prompt(chat("question", "answer", "long"), "short")
    asked, completion = encode_example(tokenizer, prompt, "answer")
    assert asked == encode_prompt(tokenizer, prompt)
    assert tokenizer.decode(completion) == "answer<|im_end|>"
    assert completion[-1] == tokenizer.eos_token_id


def test_a_template_that_changes_the_prompt_is_refused(tokenizer):
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(UserError, match="renders an answered chat with another prompt"):
        encode_example(tokenizer, build_prompt(chat("q", "a"), None), "a")


def test_a_template_without_an_end_of_turn_still_teaches_to_stop(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    completion = encode_example(tokenizer, build_prompt(chat("q", "a"), None), "a")[1]
    assert completion[-1] == tokenizer.eos_token_id


def test_shots_stand_between_the_instruction_and_the_question():
    record, shot = chat("q", "a", "own"), chat("q1", "a1", "other")
    roles = [(m["role"], m["content"]) for m in build_prompt(record, "new", [shot])]
    assert roles == [("system", "new"), ("user", "q1"), ("assistant", "a1"), ("user", "q")]
    assert build_prompt(record, None)[0]["content"] == "own"


def test_retrieval_puts_the_most_similar_row_last():
    train = [chat("red apple pie", "1"), chat("blue sky", "2"), chat("red apple", "3"), chat("green grass", "4")]
    found = Retriever(train).search([chat("a red apple pie", "?")], 2)[0]
    assert [record.target for record in found] == ["3", "1"]


def test_retrieval_gives_what_there_is():
    assert len(Retriever([chat("one", "1")]).search([chat("two", "?")], 5)[0]) == 1
