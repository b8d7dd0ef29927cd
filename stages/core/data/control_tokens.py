"""Keep the control tokens of a model out of the texts of rows.

A control token, such as `<|im_end|>`, gives a chat its structure. Only the chat template writes
it. Where a text contains its spelling, the model must read ordinary text, or else a text could end
its own turn and go on as the assistant. Therefore the spellings are marked in the texts before the
template renders them, and what is marked is encoded as text.

The method is that of transformers, whose `apply_chat_template` does this with
`sanitize_control_tokens=True`. This module also covers the keys of objects, answers that think or
call tools, spellings that a normalizer turns into a control token, tokenizers that produce one from
plain text, and texts without a template.
"""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import orjson

from stages.core.data.marks import mark_places
from stages.core.data.records import Message

if TYPE_CHECKING:
    from tokenizers import AddedToken, Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

# What the assistant says itself. Thoughts and calls have marks there that the model has to write.
SPOKEN = {"content", "reasoning_content"}
KEPT = 16  # marked texts in memory

_known: "WeakKeyDictionary[PreTrainedTokenizerBase, ControlTokens]" = WeakKeyDictionary()


def get_control_tokens(tokenizer: "PreTrainedTokenizerBase") -> "ControlTokens":
    """Return the control tokens of a tokenizer and its chat template."""
    known = _known.get(tokenizer)
    if known is None or known.template != tokenizer.chat_template:
        known = _known[tokenizer] = ControlTokens(tokenizer)
    return known


class ControlTokens:
    """The control tokens of a tokenizer.

    These are its special tokens, and in all texts but those that the assistant speaks also the
    other added tokens that the chat template writes, such as `<tool_response>` and `<think>`.
    A token of a single character is not one, because any text may contain it.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        from tokenizers import AddedToken, Tokenizer

        self.template = tokenizer.chat_template
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._backend = backend if isinstance(backend, Tokenizer) else None
        added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
        named = set(tokenizer.all_special_tokens)
        named |= {content for content, token in added.items() if token.special}
        special = [
            added.get(content) or AddedToken(content, normalized=False)
            for content in sorted(named)
            if len(content.strip()) > 1
        ]
        written = [
            token
            for content, token in added.items()
            if content not in named and content in str(self.template) and _is_markup(content)
        ]
        self._contents = {token.content for token in [*special, *written]}
        # The longest first, because one may end in another.
        self.special = sorted((token.content for token in special), key=len, reverse=True)
        normalizer = self._backend.normalizer if self._backend else None
        self._spoken = _Marker(special, normalizer)
        self._all = _Marker([*special, *written], normalizer)

    def mark_chat(self, messages: Sequence[Message]) -> list[Message]:
        """Mark the control tokens in all texts of a chat."""
        return [
            {
                key: self.mark(value, spoken=message.get("role") == "assistant" and key in SPOKEN)
                for key, value in message.items()
            }
            for message in messages
        ]

    def mark(self, value: Any, *, spoken: bool = False) -> Any:
        """Mark the control tokens in a text, or in all texts and keys of a JSON value.

        Args:
            value: The text or the value. It is returned unchanged if it contains none.
            spoken: Whether this is what the assistant says.
        """
        if isinstance(value, str):
            return (self._spoken if spoken else self._all).mark(value)
        if isinstance(value, dict):
            return {self.mark(key): self.mark(item, spoken=spoken) for key, item in value.items()}
        if isinstance(value, list):
            return [self.mark(item, spoken=spoken) for item in value]
        return value

    def encode_batch_as_text(self, texts: list[str]) -> list[list[int]] | None:
        """Return the token ids of texts, or None, as `encode_as_text` does."""
        if self._plain is None:
            return None
        return [
            found.ids for found in self._plain.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def encode_as_text(self, text: str, **truncation: Any) -> "Encoding | None":
        """Encode a text in which no spelling becomes a control token.

        Args:
            text: The text, without marks.
            truncation: Arguments of `tokenizers.Tokenizer.enable_truncation`. If there are any, the
                special tokens that the tokenizer puts around a text are added, as for a classifier.

        Returns:
            The encoding, or None if the tokenizer is not a fast one.
        """
        if self._plain is None:
            return None
        if not truncation:
            return self._plain.encode(text, add_special_tokens=False)
        self._plain.enable_truncation(**truncation)
        found = self._plain.encode(text)
        self._plain.no_truncation()
        return found

    @cached_property
    def _plain(self) -> "Tokenizer | None":
        """A copy of the tokenizer that has no added tokens and spells its control tokens otherwise.

        Some vocabularies contain the spellings, and their models then find them in plain text.
        """
        from tokenizers import Tokenizer

        if self._backend is None:
            return None
        made = orjson.loads(self._backend.to_str())
        made |= {"added_tokens": [], "truncation": None, "padding": None}
        model = made["model"]
        secret = token_hex()  # which no text contains

        def hide(content: str) -> str:
            return secret + content if content in self._contents else content

        vocabulary = model["vocab"]
        model["vocab"] = (
            {hide(content): i for content, i in vocabulary.items()}
            if isinstance(vocabulary, dict)
            else [[hide(content), score] for content, score in vocabulary]
        )
        if model.get("unk_token"):
            model["unk_token"] = hide(model["unk_token"])
        if "merges" in model:
            model["merges"] = [
                pair for pair in model["merges"] if not self._contents & {*pair, "".join(pair)}
            ]
        return Tokenizer.from_str(orjson.dumps(made).decode())


class _Marker:
    """Marks tokens in texts where the tokenizer itself finds them, in linear time."""

    def __init__(self, tokens: "Sequence[AddedToken]", normalizer: Any) -> None:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers

        self._tokenizer = Tokenizer(models.BPE())
        # What is no added token is removed.
        self._tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]+"), "removed")
        folded = normalizer is not None and any(token.normalized for token in tokens)
        if folded:
            self._tokenizer.normalizer = normalizer
        self._tokenizer.add_special_tokens(list(tokens))
        firsts = "".join({token.content.strip()[0] for token in tokens})
        # Each text of a row is marked when it is counted, rendered and checked.
        self._mark_found = lru_cache(KEPT)(self._find_and_mark)
        self._hint = None if folded else re.compile(f"[{re.escape(firsts)}]" if firsts else "(?!)")

    def mark(self, text: str) -> str:
        """Mark the tokens in a text, without white space around them."""
        if self._hint and not self._hint.search(text):
            return mark_places(text, [])  # ten times as fast, and so for most texts
        return self._mark_found(text)

    def _find_and_mark(self, text: str) -> str:
        found = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return mark_places(text, [_strip(text, start, end) for start, end in found])


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    content = text[start:end]
    return start + len(content) - len(content.lstrip()), start + len(content.rstrip())


def _is_markup(content: str) -> bool:
    return len(content.strip()) > 1 and not content.strip().isalnum()
