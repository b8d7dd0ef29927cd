"""Test that rows far above the limit of tokens are found without counting, and no others."""

import unicodedata

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stages.core.data.records import Record
from stages.core.models.base_models import get_base_tokenizer
from stages.core.models.loading import get_tokenizer
from stages.prepare import token_bound, tokens
from stages.prepare.token_bound import SHRINKS, longest_token
from stages.prepare.tokens import TokenCheck
from tests.prepare.rows import ANSWER, QUESTION


def look(checked, *records):
    tokenizer = get_tokenizer(get_base_tokenizer(checked.model))
    places = [("rows.jsonl", i) for i, _ in enumerate(records)]
    check = TokenCheck(checked, tokenizer, ends=())
    return check.look("train", records, places), check


def chat(*contents):
    roles = [QUESTION, ANSWER] * len(contents)
    return Record.of([{**role, "content": c} for role, c in zip(roles, contents, strict=False)])


@pytest.mark.parametrize("action", ["fail", "truncate"])
@pytest.mark.parametrize(
    "record",
    [
        chat("a b " * 5_000, "yes"),
        chat("é" * 9_000, "yes"),
        chat("q", "yes " * 9_000),
        chat(*(["q", "a"] * 300)),
        chat("s " * 5_000, "a", "q", "b"),
    ],
)
def test_the_finding_and_the_truncated_row_are_those_of_a_count(
    config, monkeypatch, action, record
):
    checked = config("model.max_length=256", f"checks.too_long={action}")
    [(kept, [finding])], check = look(checked, record)
    with monkeypatch.context() as patch:
        patch.setattr(token_bound.TokenBound, "find_least", lambda *_: None)
        [(counted, [other])], exact = look(checked, record)
    assert finding.code == other.code == "too_long"
    assert (kept is None) == (counted is None)
    if kept and counted:  # a token may stand for a part of a character
        texts = zip(kept.messages, counted.messages, strict=True)
        assert all(abs(len(a["content"]) - len(b["content"])) <= 1 for a, b in texts)
        assert kept.messages[-1] == record.messages[-1]
    assert (check.over_limit, check.truncated) == (exact.over_limit, exact.truncated)


@pytest.mark.parametrize("text", ["a" * 1_000_000, "/" * 1_000_000, "\u0301" * 500_000])
def test_a_row_that_is_far_too_long_is_not_tokenized_whole(config, monkeypatch, text):
    encoded = []

    def encode(tokenizer, chats):
        encoded.append(sum(len(segment.text) for chat in chats for segment in chat))
        return original(tokenizer, chats)

    original = tokens.encode_segments
    monkeypatch.setattr(tokens, "encode_segments", encode)
    [(_, [finding])], _ = look(config("model.max_length=256"), chat(text, "yes"))
    assert finding.code == "too_long" and "at least" in finding.found and sum(encoded) == 0
    look(config("model.max_length=256", "checks.too_long=truncate"), chat(text, "yes"))
    assert sum(encoded) < 20_000


def test_a_chat_of_many_turns_is_rendered_once_and_not_once_for_each_turn(config, monkeypatch):
    rendered = []
    original = token_bound.split_record

    def split(tokenizer, record, instruction):
        rendered.append(len([m for m in record.messages if m.get("weight") != 0]))
        return original(tokenizer, record, instruction)

    monkeypatch.setattr(token_bound, "split_record", split)
    monkeypatch.setattr(tokens, "split_record", lambda *_: pytest.fail("rendered for each turn"))
    [(_, [finding])], _ = look(config("model.max_length=256"), chat(*(["q", "a"] * 128)))
    assert finding.code == "too_long" and len(rendered) == 1
    # More turns than tokens are too long without any rendering.
    [(_, [finding])], _ = look(config("model.max_length=256"), chat(*(["q", "a"] * 129)))
    assert finding.found.startswith("at least 258 tokens") and len(rendered) == 1


def test_the_longest_token_is_known_only_if_no_token_stands_for_more(config):
    def build(model, **parts):
        tokenizer = Tokenizer(model)
        for name, part in parts.items():
            setattr(tokenizer, name, part)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)

    letters = {letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    bpe = models.BPE(letters | {"aaaa": 256}, [])
    bytes_ = pre_tokenizers.ByteLevel()
    assert longest_token(build(bpe, pre_tokenizer=bytes_)) == 4
    assert longest_token(build(bpe, pre_tokenizer=bytes_, normalizer=normalizers.NFC())) == 12
    lower = normalizers.Lowercase()
    assert longest_token(build(bpe, pre_tokenizer=bytes_, normalizer=lower)) is None
    removes = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), bytes_])
    assert longest_token(build(bpe, pre_tokenizer=removes)) is None
    assert longest_token(build(models.WordPiece({"[UNK]": 0}))) is None
    swallows = build(bpe, pre_tokenizer=bytes_)
    swallows.add_tokens([AddedToken("<x>", lstrip=True)])
    assert longest_token(swallows) is None


def test_nfc_shrinks_no_text_more_than_is_assumed():
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            apart = unicodedata.normalize("NFD", chr(code))
            made = unicodedata.normalize("NFC", apart)
            assert len(apart.encode()) <= SHRINKS * len(made.encode())
