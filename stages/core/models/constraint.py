"""Greedy decoding that can only end in one of some given answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Trie = dict[int, Any]
"""From a token that may come next to the trie of what may come after it."""


def build_trie(answers: Sequence[Sequence[int]]) -> Trie:
    """The trie of the token ids of the allowed answers, each with its end token."""
    trie: Trie = {}
    for answer in answers:
        place = trie
        for token in answer:
            place = place.setdefault(token, {})
    return trie


class Walk:
    """The places in the trie at which the rows of one batch have arrived."""

    def __init__(self, trie: Trie, rows: int) -> None:
        self._places = [trie] * rows

    def choose(self, logits: "torch.Tensor", rows: Sequence[int]) -> "torch.Tensor":
        """The most likely allowed token of each row.

        Args:
            logits: of the next token, of shape (rows, vocabulary).
            rows: which row of the batch each of them is.
        """
        import torch

        tokens = []
        for scores, row in zip(logits, rows, strict=True):
            allowed = list(self._places[row])
            token = allowed[int(scores[allowed].argmax())]
            self._places[row] = self._places[row][token]
            tokens.append(token)
        return torch.tensor(tokens, device=logits.device)  # of whole numbers: bfloat16 has no 257
