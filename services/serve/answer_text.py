"""The text of an answer while it is being written.

The pieces of a streamed answer, joined, are the text that evaluation would have read from the same
tokens. So a piece is sent only when no later token can change it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.core.data.thoughts import CLOSING, OPENING, decode_answer, get_header, read_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INCOMPLETE = "�"  # what tokenizers decode the beginning of a character to


class AnswerText:
    """Reads the text of one answer from its growing tokens."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", prompt: list[int], stops: Sequence[str] = ()
    ) -> None:
        """Take the tokenizer, the token ids of the prompt, and texts that end the answer."""
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._stops = stops
        self._thinks = CLOSING in str(tokenizer.chat_template) and not get_header(tokenizer)
        self.text = ""
        """The text so far, without what a later token may change."""
        self.stopped = False
        """Whether one of the texts that end the answer has come. It is not part of the text."""

    def update(self, ids: Sequence[int], finished: bool) -> str:
        """Read all tokens so far, and return what has been added to the text."""
        read = read_answer(self._tokenizer, self._prompt, decode_answer(self._tokenizer, ids))
        places = [place for stop in self._stops if (place := read.find(stop)) >= 0]
        if places:
            self.stopped = True
            read = read[: min(places)]
        elif not finished:
            read = self._settle(read)
        if not read.startswith(self.text):
            return ""  # what was sent cannot be taken back
        new = read[len(self.text) :]
        self.text = read
        return new

    def _settle(self, text: str) -> str:
        """Cut off the end of a text that later tokens may change."""
        text = text.rstrip(INCOMPLETE)
        if self._thinks and OPENING.startswith(text.lstrip()):
            return ""
        if getattr(self._tokenizer, "clean_up_tokenization_spaces", False):
            text = text[: max(text.rfind(" "), 0)]  # as in "do n't", which becomes "don't"
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may be the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)
