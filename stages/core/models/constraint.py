"""Greedy decoding that is constrained to a given set of answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Trie = dict[int, Any]
"""A mapping from each token that may come next to the trie of the tokens that may follow it."""


def build_trie(answers: Sequence[Sequence[int]]) -> Trie:
    """Build the trie of the allowed answers, given as token ids that include the end token."""
    trie: Trie = {}
    for answer in answers:
        place = trie
        for token in answer:
            place = place.setdefault(token, {})
    return trie


class Walk:
    """The current places of the rows of one batch in the trie."""

    def __init__(self, trie: Trie, rows: int) -> None:
        self._places = [trie] * rows

    def choose(self, logits: "torch.Tensor", rows: Sequence[int]) -> "torch.Tensor":
        """Choose the most likely allowed token of each row.

        Args:
            logits: The logits of the next token, of shape (rows, vocabulary).
            rows: The index in the batch of each row of `logits`.
        """
        import torch

        tokens = []
        for scores, row in zip(logits, rows, strict=True):
            allowed = list(self._places[row])
            token = allowed[int(scores[allowed].argmax())]
            self._places[row] = self._places[row][token]
            tokens.append(token)
        # Without the dtype of the logits the tensor stays integer; bfloat16 cannot represent 257.
        return torch.tensor(tokens, device=logits.device)
