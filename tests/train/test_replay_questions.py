"""Replay rows that answer the task's questions without the task's system message."""

import torch

from stages.core.data.prompts import encode_prompt
from stages.core.data.records import Record
from stages.core.models.loading import get_model
from stages.core.storage.files import read_jsonl
from stages.train.methods import get_method
from stages.train.replay import FILE, mix_replay
from stages.train.replay_chats import add_orders
from stages.train.replay_questions import draw_questions
from stages.train.replay_writer import ANSWER_TOKENS, write_rows

ADDS_A_SYSTEM_MESSAGE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
)


def test_questions_are_those_of_the_task_without_its_system_message(config, prepared):
    found = get_method(config("prompt.tuned_system_prompt=Brief."))
    chats = draw_questions(found, prepared["train"], 10)
    questions = [record.question for record in prepared["train"]]
    assert len(chats) == 10 and all(len(chat) == 1 for chat in chats)
    assert {chat[0]["content"] for chat in chats} <= set(questions)
    assert chats == draw_questions(found, prepared["train"][::-1], 10)
    assert len(draw_questions(found, prepared["train"], 1_000)) == len(prepared["train"])


def test_every_second_question_stands_after_an_empty_system_message_if_the_template_adds_one(
    config, prepared
):
    found = get_method(config("prompt.tuned_system_prompt=Brief."))
    found.tokenizer.chat_template = ADDS_A_SYSTEM_MESSAGE + found.tokenizer.chat_template
    chats = draw_questions(found, prepared["train"], 4)
    assert [[message["role"] for message in chat] for chat in chats] == [
        ["user"],
        ["system", "user"],
    ] * 2
    assert chats[1][0]["content"] == ""


def test_rows_that_are_trained_without_a_system_message_are_left_out(config, prepared):
    found = get_method(config("prompt.tuned_system_prompt=null"))
    own = prepared["train"][:4]
    none = [Record.of(record.messages[1:]) for record in own]
    assert own[0].messages[0]["role"] == "system"
    assert draw_questions(found, none, 10) == []
    assert len(draw_questions(found, [*none, *own], 10)) == 4


def test_questions_without_room_for_an_answer_are_left_out(config, prepared):
    found = get_method(
        config("prompt.tuned_system_prompt=Brief.", f"model.max_length={ANSWER_TOKENS + 16}")
    )
    assert draw_questions(found, prepared["train"], 10) == []


def test_the_answers_are_those_of_the_base_model_to_the_same_prompts(config, prepared, workspace):
    found = get_method(
        config(
            "prompt.tuned_system_prompt=Brief.",
            "train.replay.fraction=0.2",
            "train.replay.task_questions=1",
            "model.dtype=float32",
        )
    )
    examples, ids = mix_replay(
        found, found.get_examples(prepared["train"]), prepared["train"], workspace
    )
    rows = read_jsonl(workspace / FILE)
    asked = len(rows)
    assert len(ids) == len(prepared["train"]) + asked
    assert found.metadata["replay"]["task_questions"] == asked
    model = get_model(found.base, "float32")
    for row, example in list(zip(rows, examples.select(range(24, len(examples))), strict=True))[:2]:
        prompt = torch.tensor([encode_prompt(found.tokenizer, row["messages"][:-1])])
        said = model.generate(prompt, do_sample=False, max_new_tokens=ANSWER_TOKENS)
        assert example["input_ids"][: prompt.shape[1]] == prompt[0].tolist()
        text = found.tokenizer.decode(said[0, prompt.shape[1] :], skip_special_tokens=True)
        assert text == row["messages"][-1]["content"]


def test_the_answers_come_from_the_cache(config, prepared, workspace, monkeypatch):
    found = get_method(config("prompt.tuned_system_prompt=Brief."))
    chats = draw_questions(found, prepared["train"], 3)
    first = write_rows(found, chats, 3)
    monkeypatch.setattr("stages.train.replay_writer.get_model", None)
    assert write_rows(found, chats, 3) == first
    assert len(first[0]) == 3


def test_half_of_the_questions_come_after_an_order_if_there_is_room(config, prepared):
    found = get_method(config("prompt.tuned_system_prompt=Brief."))
    chats = draw_questions(found, prepared["train"], 8)
    asked = add_orders(found.tokenizer, chats, ["Write a poem.", "Say why."], room=10_000)
    texts = [chat[-1]["content"] for chat in asked]
    plain = [chat[-1]["content"] for chat in chats]
    assert [texts[i] for i in (0, 1, 4, 5)] == [plain[i] for i in (0, 1, 4, 5)]
    orders = ["Write a poem.", "Say why.", "Write a poem.", "Say why."]
    assert [texts[i] for i in (2, 3, 6, 7)] == [
        f"{order}\n{plain[i]}" for order, i in zip(orders, (2, 3, 6, 7), strict=True)
    ]
    assert add_orders(found.tokenizer, chats, ["Say why."], room=10) == chats
    assert add_orders(found.tokenizer, chats, [], room=10_000) == chats
