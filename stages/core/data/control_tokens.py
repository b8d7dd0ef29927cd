"""Keep the control tokens of a model out of the texts of rows.

A control token, such as `<|im_end|>`, gives a chat its structure. Only the chat template writes
it. Where a text contains its spelling, the model must read ordinary text, or else a text could end
its own turn and go on as the assistant. Therefore the spellings are marked in the texts before the
template renders them, and what is marked is encoded as text.

The marks are those of `mark_control_tokens` in transformers, whose `apply_chat_template` does the
same with `sanitize_control_tokens=True`. This module also covers the keys of objects, answers that
think or call tools, spellings that a normalizer turns into a control token, tokenizers that produce
one from plain text, and texts without a template.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import orjson

from stages.core.data.records import Message

if TYPE_CHECKING:
    from tokenizers import AddedToken, Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

# Two characters that Unicode reserves for a program's own use and that no text should contain.
START = "\ufdd0"
END = "\ufdd1"
# A mark without its partner comes from a template that cut a text in two. It still divides the
# text, so that two halves cannot be joined to a control token.
_PIECES = re.compile(f"{START}([{START}{END}]|[^{START}{END}]+){END}|[{START}{END}]")
_MARKS = re.compile(f"[{START}{END}]")
_LIKE_MARKS = re.compile(rf"[{START}{END}]|\\ufdd[01]")
LEADS = ("\n", ".")  # transformers uses the first of them
# What the assistant says itself. Thoughts and calls have marks there that the model has to write.
SPOKEN = {"content", "reasoning_content"}

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
        normalizer = self._backend.normalizer if self._backend else None
        self._spoken = _Finder(special, normalizer)
        self._all = _Finder([*special, *written], normalizer)

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
            return _mark_text(value, (self._spoken if spoken else self._all).find(value))
        if isinstance(value, dict):
            return {self.mark(key): self.mark(item, spoken=spoken) for key, item in value.items()}
        if isinstance(value, list):
            return [self.mark(item, spoken=spoken) for item in value]
        return value

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


class _Finder:
    """Finds tokens in texts as the tokenizer itself finds them, in linear time."""

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
        self._hint = None if folded else re.compile(f"[{re.escape(firsts)}]" if firsts else "(?!)")

    def find(self, text: str) -> list[tuple[int, int]]:
        """Return the start and the end of each token, without white space around it."""
        if self._hint and not self._hint.search(text):
            return []  # ten times as fast, and so for most texts
        found = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return [_strip(text, start, end) for start, end in found]


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    content = text[start:end]
    return start + len(content) - len(content.lstrip()), start + len(content.rstrip())


def _is_markup(content: str) -> bool:
    return len(content.strip()) > 1 and not content.strip().isalnum()


def _mark_text(text: str, places: Sequence[tuple[int, int]]) -> str:
    """Put marks around places of a text, and around marks that the text itself contains.

    An escape of a mark (see `restore`) is divided by a mark.
    """
    if not places and not _LIKE_MARKS.search(text):
        return text

    def escape(found: re.Match[str]) -> str:
        return f"{START}{found[0]}{END}" if len(found[0]) == 1 else f"\\{START}{found[0][1:]}"

    parts = []
    done = 0
    for start, end in [*places, (len(text), len(text))]:
        parts.append(_LIKE_MARKS.sub(escape, text[done:start]))
        parts.append(f"{START}{text[start:end]}{END}" if start < end else "")
        done = end
    return "".join(parts)


def is_marked(text: str) -> bool:
    """Tell whether a text contains marks."""
    return _MARKS.search(text) is not None


def restore(rendered: str) -> str:
    """Restore the marks that a template has written as escapes of JSON or Python."""
    if r"\ufdd" not in rendered:
        return rendered
    return rendered.replace(r"\ufdd0", START).replace(r"\ufdd1", END)


def unmark(text: str) -> str:
    """Return a text without the marks, to be shown."""
    return "".join(piece for piece, _ in split_marked(text))


def split_marked(text: str) -> Iterator[tuple[str, bool]]:
    """Split a marked text into its pieces, with whether each is marked."""
    for i, piece in enumerate(_PIECES.split(text)):
        if piece:
            yield piece, i % 2 == 1


def encode_texts(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Encode rendered texts, which may contain marks, without further special tokens."""
    plain = iter(_encode_plain(tokenizer, [text for text in texts if not is_marked(text)]))
    return [_encode_marked(tokenizer, text) if is_marked(text) else next(plain) for text in texts]


def get_offsets(
    tokenizer: "PreTrainedTokenizerBase", text: str, *, as_text: bool
) -> list[tuple[int, int]]:
    """Return the place of each token in a text.

    Args:
        tokenizer: A fast tokenizer.
        text: A text without marks.
        as_text: Whether spellings of control tokens are ordinary text in it.
    """
    found = get_control_tokens(tokenizer).encode_as_text(text) if as_text else None
    if found:
        return found.offsets
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]


def _encode_plain(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, Tokenizer):  # twice as fast as the wrapper of transformers
        # Files of tokenizers store these, and each call of the wrapper sets them for the next one.
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = False
        return [
            encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)
        ]
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def _encode_marked(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    ids: list[int] = []
    for piece, marked in split_marked(text):
        encode = _encode_after if ids else _encode_piece
        ids += encode(tokenizer, piece, marked)
    return ids


def _encode_after(tokenizer: "PreTrainedTokenizerBase", piece: str, as_text: bool) -> list[int]:
    """Encode a piece that is not the first one.

    Tokenizers of SentencePiece add a space at the start of a text. So the piece is encoded after a
    character whose tokens are then removed, unless they have merged with those of the piece.
    """
    for lead in LEADS:
        before = _encode_piece(tokenizer, lead, as_text)
        ids = _encode_piece(tokenizer, lead + piece, as_text)
        if ids[: len(before)] == before:
            return ids[len(before) :]
    return _encode_piece(tokenizer, piece, as_text)


def _encode_piece(tokenizer: "PreTrainedTokenizerBase", piece: str, as_text: bool) -> list[int]:
    if not as_text:
        return _encode_plain(tokenizer, [piece])[0]
    found = get_control_tokens(tokenizer).encode_as_text(piece)
    if found:
        return found.ids
    # No control token has a single character.
    return [i for character in piece for i in _encode_plain(tokenizer, [character])[0]]
