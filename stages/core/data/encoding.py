"""Encode rendered texts, of which what is marked becomes ordinary text."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.marks import is_marked, split_marked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encode = Callable[[list[str]], list[list[int]]]
LEADS = ("\n", ".")  # transformers uses the first of them


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
    pieces = list(split_marked(text))
    as_text = partial(_encode_as_text, tokenizer)
    as_usual = partial(_encode_plain, tokenizer)
    after = {
        marked: _encode_after(encode, [piece for piece, kind in pieces[1:] if kind == marked])
        for marked, encode in ((True, as_text), (False, as_usual))
    }
    ids: list[int] = []
    for i, (piece, marked) in enumerate(pieces):
        first = as_text if marked else as_usual
        ids += after[marked][piece] if i else first([piece])[0]
    return ids


def _encode_after(encode: Encode, pieces: Sequence[str]) -> dict[str, list[int]]:
    """Encode pieces that do not come first in their text.

    Tokenizers of SentencePiece add a space at the start of a text. So a piece is encoded after a
    character whose tokens are then removed, unless they have merged with those of the piece.
    """
    rest = list(dict.fromkeys(pieces))
    found = {}
    for lead in LEADS:
        before = encode([lead])[0]
        for piece, ids in zip(rest, encode([lead + piece for piece in rest]), strict=True):
            if ids[: len(before)] == before:
                found[piece] = ids[len(before) :]
        rest = [piece for piece in rest if piece not in found]
    return found | dict(zip(rest, encode(rest), strict=True))


def _encode_as_text(tokenizer: "PreTrainedTokenizerBase", pieces: list[str]) -> list[list[int]]:
    found = get_control_tokens(tokenizer).encode_batch_as_text(pieces)
    if found is not None:
        return found
    # No control token has a single character.
    return [[i for ids in _encode_plain(tokenizer, list(piece)) for i in ids] for piece in pieces]
