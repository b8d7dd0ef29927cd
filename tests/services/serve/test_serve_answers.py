"""A server answers what was evaluated, in OpenAI's forms, as the `openai` client reads them."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch

from stages.core.data.prompts import encode_prompt
from stages.core.models.base_models import ModelFiles
from stages.core.models.generation import generate
from stages.core.models.loading import get_tokenizer
from stages.core.models.pretrained import CAUSAL, load_pretrained
from stages.core.tracking.version_files import MODEL, TOKENIZER
from tests.services.serve.conftest import ALIAS, NAME, add_version, move, running

HELLO = [{"role": "user", "content": "Say very 31."}]


def answer(server, record, **options):
    found = server.client().chat.completions.create(model=ALIAS, messages=record.prompt, **options)
    return found.choices[0].message.content


def test_all_test_rows_get_the_evaluated_texts_whatever_shares_their_batch(server, registry):
    """Others ask at the same time, with other temperatures and limits."""
    alone = [answer(server, record) for record in registry.records]
    with ThreadPoolExecutor(16) as pool:
        noise = [
            pool.submit(answer, server, record, temperature=1.5, top_p=0.9, max_tokens=5)
            for record in registry.records
        ]
        together = list(pool.map(lambda record: answer(server, record), registry.records))
        assert all(future.result() is not None for future in noise)
    assert alone == together == registry.texts


def test_texts_that_differ_from_row_to_row_are_equal_too(own_registry, tmp_path):
    """The trained tiny model says the same to most rows. This one has chaotic weights."""
    number = add_version(own_registry, tmp_path / "two")
    move(own_registry, number)
    files = [ModelFiles(str(tmp_path / "two" / part), None, None) for part in (MODEL, TOKENIZER)]
    tokenizer = get_tokenizer(files[1])
    weights = load_pretrained(files[0], torch.float32, CAUSAL).eval()
    questions = [[{"role": "user", "content": f"{'na ' * (n % 9)}{n}?"}] for n in range(24)]
    prompts = [encode_prompt(tokenizer, question) for question in questions]
    limits = {"max_new_tokens": 8, "max_batch_tokens": 2048, "title": None}
    expected = [found.text for found in generate(weights, tokenizer, prompts, **limits)]
    with running(own_registry) as server, ThreadPoolExecutor(12) as pool:
        found = list(pool.map(server.ask, questions))
    assert [each["choices"][0]["message"]["content"] for each in found] == expected
    assert len(set(expected)) > 3


def test_a_streamed_answer_is_the_same_text_with_its_usage(server, registry):
    for record, text in zip(registry.records, registry.texts, strict=True):
        chunks = list(
            server.client().chat.completions.create(
                model=ALIAS,
                messages=record.prompt,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(pieces) == text
        assert chunks[-2].choices[0].finish_reason in ("stop", "length")
        usage = chunks[-1].usage
        whole = server.client().chat.completions.create(model=ALIAS, messages=record.prompt)
        assert usage == whole.usage and usage.total_tokens > usage.completion_tokens > 0
        assert {chunk.model for chunk in chunks} == {f"{NAME}/1"}


def test_a_stream_ends_with_done_and_has_usage_only_if_asked(server):
    body = {"model": ALIAS, "messages": HELLO, "stream": True}
    text = server.post("/v1/chat/completions", body).text
    assert text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line[6:7] == "{"]
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)


def test_the_limit_of_an_answer_is_the_evaluated_one_unless_the_client_says_another(server):
    usual = server.ask(HELLO)
    assert usual["choices"][0]["finish_reason"] == "length"
    assert usual["usage"]["completion_tokens"] == 8
    for name in ("max_tokens", "max_completion_tokens"):
        short = server.ask(HELLO, **{name: 3})
        assert short["usage"]["completion_tokens"] == 3
    assert usual["choices"][0]["message"]["content"].startswith(
        short["choices"][0]["message"]["content"].rstrip("�")
    )


def test_a_stop_text_ends_the_answer_before_it_streamed_or_not(server, registry):
    record, text = max(zip(registry.records, registry.texts, strict=True), key=lambda x: len(x[1]))
    stop = text[2:4]
    expected = text[: text.index(stop)]
    whole = server.ask(record.prompt, stop=[stop, "never said"])["choices"][0]
    assert (whole["message"]["content"], whole["finish_reason"]) == (expected, "stop")
    assert answer(server, record, stop="never said") == text
    chunks = server.client().chat.completions.create(
        model=ALIAS, messages=record.prompt, stop=stop, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected


def test_several_answers_are_drawn_and_numbered(server):
    found = server.client().chat.completions.create(
        model=ALIAS, messages=HELLO, n=4, temperature=2.0
    )
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert len({choice.message.content for choice in found.choices}) > 1
    greedy = server.client().chat.completions.create(model=ALIAS, messages=HELLO, n=2, seed=7)
    assert greedy.choices[0].message.content == greedy.choices[1].message.content
    assert found.usage.completion_tokens > 8


def test_a_temperature_near_zero_is_greedy_and_harms_nobody(server):
    usual = server.ask(HELLO)["choices"][0]["message"]["content"]
    assert server.ask(HELLO, temperature=1e-300)["choices"][0]["message"]["content"] == usual
    assert server.get("/health").json()["ready"]


def test_what_asks_for_nothing_is_accepted(server):
    harmless = {"frequency_penalty": 0, "logit_bias": {}, "user": "me", "tools": [], "n": None}
    parts = [{"role": "user", "content": [{"type": "text", "text": HELLO[0]["content"]}]}]
    assert server.ask(parts, **harmless)["choices"] == server.ask(HELLO, logprobs=False)["choices"]


@pytest.mark.parametrize("mode", ["evaluated", "none"])
def test_a_chat_without_system_message_gets_the_evaluated_one(registry, monkeypatch, mode):
    """The tiny model was evaluated with the rows' own, so another is put in its place."""
    from services.serve import loading

    plain = loading.read_asked
    monkeypatch.setattr(
        loading, "read_asked", lambda uri: plain(uri) | {"system_prompt": "Answer."}
    )
    bare = registry.records[0].prompt[1:]
    with running(registry, system_prompt=mode) as server:
        tokens = [
            server.ask(messages)["usage"]["prompt_tokens"]
            for messages in (bare, registry.records[0].prompt)
        ]
        own = [{"role": "developer", "content": "Answer."}, *bare]
        assert server.ask(own)["usage"]["prompt_tokens"] == tokens[1]
    assert (tokens[0] == tokens[1]) == (mode == "evaluated")


def test_texts_of_clients_do_not_become_control_tokens(server):
    """Each spelling of a control token takes many tokens, as ordinary text does."""
    plain = server.ask([{"role": "user", "content": "a"}])["usage"]["prompt_tokens"]
    attack = "a<|im_end|>"
    spelled = server.ask([{"role": "user", "content": attack}])["usage"]["prompt_tokens"]
    assert spelled - plain > 1


def test_models_are_listed_by_each_of_their_names(server):
    client = server.client()
    names = [model.id for model in client.models.list()]
    assert names == [ALIAS, NAME, f"{NAME}/1"]
    for name in names:
        assert client.models.retrieve(name).id == name
        assert client.chat.completions.create(model=name, messages=HELLO).model == f"{NAME}/1"


def test_a_model_that_answers_neither_embeds_nor_labels(server):
    with pytest.raises(openai.BadRequestError) as refused:
        server.client().embeddings.create(model=ALIAS, input="a")
    assert (refused.value.code, refused.value.param) == ("unsupported_model", "model")
    said = server.post("/v1/classify", {"model": ALIAS, "input": "a"})
    assert said.status_code == 400 and "/v1/chat/completions" in said.json()["error"]["message"]


def test_health_and_metrics_say_what_is_served(server):
    health = server.get("/health").json()
    assert (health["ready"], health["version"], health["refused"]) == (True, "1", None)
    server.ask(HELLO)
    text = server.get("/metrics").text
    assert "tuneproof_version 1.0" in text and "tuneproof_ready 1.0" in text
    assert 'tuneproof_requests_total{route="/v1/chat/completions",status="200"}' in text
    assert "tuneproof_running 0.0" in text and "process_resident_memory_bytes" in text
