"""Check the records as the model reads them, with its own tokenizer and chat template.

The checks cover token counts, the length limit and which tokens are trained.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.encoding import get_offsets
from stages.core.data.end_tokens import get_end_ids
from stages.core.data.marks import is_marked
from stages.core.data.prompts import (
    Example,
    Segment,
    build_prompt,
    encode_prompt,
    encode_segments,
    split_record,
)
from stages.core.data.records import SPLITS, Record
from stages.core.data.templates import TemplateError
from stages.core.planning.estimate import count_forward_tokens, estimate_training
from stages.core.planning.model_dimensions import ModelDimensions
from stages.prepare.control_token import find_control_tokens
from stages.prepare.findings import Finding
from stages.prepare.statistics import Counts
from stages.prepare.token_bound import TokenBound

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOO_LONG = "shorten it, raise model.max_length if the model allows it, or set checks.too_long"
SPARE = 8  # tokens cut beyond the excess, because the text may be tokenized differently at the cut
Place = tuple[str, int]


class TokenCheck:
    """Counts the tokens of all records and checks them."""

    def __init__(
        self, config: Config, tokenizer: "PreTrainedTokenizerBase", ends: Collection[int]
    ) -> None:
        """Take the end tokens that only the model's generation settings name as `ends`."""
        self._config = config
        self._ends = {*get_end_ids(tokenizer), *ends}
        self._tokenizer = tokenizer
        self._shows_tools = "tools" in str(tokenizer.chat_template)
        self.counts = {split: Counts() for split in SPLITS}
        self.over_limit = self.truncated = 0
        self._limit = config.model.max_length
        self._bound = TokenBound(tokenizer, self._limit, config.prompt.tuned_system_prompt)

    def look(
        self, split: str, records: Sequence[Record], places: Sequence[Place]
    ) -> list[tuple[Record | None, list[Finding]]]:
        """Check the records of a batch.

        Args:
            split: The split of the records.
            records: The records.
            places: The source file and line of each record.

        Returns:
            For each record the findings, and either the record itself, its truncated form, or None
            if it cannot be used.
        """
        made = [self._render(record, place) for record, place in zip(records, places, strict=True)]
        examples = encode_segments(self._tokenizer, [chat for _, chat, _ in made])
        looked: list[tuple[Record | None, list[Finding]]] = []
        for (record, _, refused), place, example in zip(made, places, examples, strict=True):
            if refused:
                looked.append((None, refused))
                self.counts[split].add(record, example)
                continue
            kept, read, too_long = self._fit(split, record, place, example)
            self.counts[split].add(kept or record, read)
            looked.append((kept, self._check(record, place, example) + too_long))
        return looked

    def _render(self, record: Record, place: Place) -> tuple[Record, list[Segment], list[Finding]]:
        """Split a record into segments, or report why it cannot be used.

        Returns:
            The record, which is shorter but still too long if it was far too long and may be
            truncated, its segments, and the findings that rule it out.
        """
        try:
            least = self._bound.find_least(record)
            shorter = self._shorten_far(record, least) if least else record
            if shorter:
                instruction = self._config.prompt.tuned_system_prompt
                return shorter, split_record(self._tokenizer, shorter, instruction), []
        except TemplateError as error:
            todo = "change the row, or choose another model"
            found = Finding("template_refuses", *place, "messages", str(error), todo, record.id)
            return record, [], [found]
        self.over_limit += 1
        what = f"at least {least:,} tokens, more than model.max_length={self._limit:,}"
        found = Finding("too_long", *place, "messages", what, TOO_LONG, record.id)
        return record, [], [*self._check_tools(record, place), found]

    def _shorten_far(self, record: Record, least: int) -> Record | None:
        truncates = self._config.checks.too_long == "truncate"
        return self._bound.shorten(record, least) if truncates else None

    def _check(self, record: Record, place: Place, example: Example) -> list[Finding]:
        findings = find_control_tokens(self._tokenizer, record, place)
        findings += self._check_tools(record, place)
        return (
            findings
            if record.kind == "prompt"
            else findings + self._check_trained(record, place, example)
        )

    def _check_tools(self, record: Record, place: Place) -> list[Finding]:
        if not record.tools or self._shows_tools:
            return []
        what = "the model's chat template ignores tools"
        todo = "choose a model that was trained to use tools"
        return [Finding("unseen_tools", *place, "tools", what, todo, record.id)]

    def _fit(
        self, split: str, record: Record, place: Place, example: Example
    ) -> tuple[Record | None, Example, list[Finding]]:
        """Return the record or a truncated one, its example, and a finding if it is too long.

        The record is None if it is too long and was not truncated.
        """
        limit = self._config.model.max_length
        needed = self._needed(split, record, example)
        if needed <= limit or record.kind == "text":  # training splits plain text into pieces
            return record, example, []
        self.over_limit += 1
        what = f"{needed:,} tokens, more than model.max_length={limit:,}"
        todo = TOO_LONG
        shorter = (
            self._shorten(split, record, needed - limit)
            if self._config.checks.too_long == "truncate"
            else None
        )
        if shorter:
            self.truncated += 1
            record, example, cut = shorter
            what += f"; {cut:,} tokens of the longest prompt message were cut"
            todo = "check that the rest is still sufficient"
        finding = Finding("too_long", *place, "messages", what, todo, record.id)
        return (record if shorter else None), example, [finding]

    def _check_trained(self, record: Record, place: Place, example: Example) -> list[Finding]:
        learned = {token for token, counts in zip(*example, strict=True) if counts}
        if learned <= self._ends:
            what = "no token of the answer is trained"
            todo = "check how the chat template renders it"
            return [Finding("no_trained_token", *place, "messages", what, todo, record.id)]
        if not learned & self._ends:
            what = "no token that ends the model's answers is trained"
            todo = "choose a model whose chat template ends the answer with one"
            return [Finding("no_end_token", *place, "messages", what, todo, record.id)]
        return []

    def _needed(self, split: str, record: Record, example: Example) -> int:
        """Count the tokens that a record needs in training and, in the test split, in generation.

        Generation needs the prompt with the longest configured instruction and the new tokens.
        """
        prompt = self._config.prompt
        limit = self._config.model.max_length
        needed = len(example.ids)
        if split != "test" or record.kind == "text":
            return needed
        instructions = [
            text
            for text in (prompt.system_prompt, *prompt.system_prompt_variants)
            if text is not None
        ]
        asked = build_prompt(record, max(instructions, key=len, default=None))
        # A token is at least one byte, so counting bytes shows that most rows fit.
        size = sum(len(message["content"].encode("utf-8", "replace")) + 32 for message in asked)
        if size + prompt.max_new_tokens <= limit and not record.tools:
            return needed
        return max(
            needed, len(encode_prompt(self._tokenizer, asked, record.tools)) + prompt.max_new_tokens
        )

    def _shorten(
        self, split: str, record: Record, excess: int
    ) -> tuple[Record, Example, int] | None:
        """Cut the beginning of the longest message of the prompt.

        Returns:
            The shorter record, its example and the number of tokens cut, or None if it cannot fit.
        """
        prompt = record.prompt
        if not prompt:
            return None
        longest = max(range(len(prompt)), key=lambda i: len(prompt[i]["content"]))
        content = prompt[longest]["content"]
        marked = is_marked(get_control_tokens(self._tokenizer).mark(content))
        offsets = get_offsets(self._tokenizer, content, as_text=marked)
        cut = excess + SPARE
        if cut >= len(offsets):
            return None
        messages: list[Any] = list(record.messages)
        messages[longest] = {**messages[longest], "content": content[offsets[cut][0] :]}
        given = {
            "kind": record.kind,
            "tools": record.tools,
            "rejected": record.rejected,
            "desirable": record.desirable,
        }
        shorter = Record.of(messages, meta=record.meta, **given)
        chat = split_record(self._tokenizer, shorter, self._config.prompt.tuned_system_prompt)
        [example] = encode_segments(self._tokenizer, [chat])
        fits = self._needed(split, shorter, example) <= self._config.model.max_length
        return (shorter, example, cut) if fits else None

    def estimate(self, config: Config, dimensions: ModelDimensions | None) -> dict[str, Any]:
        """Estimate the steps, time and memory of training on the rows of the train split."""
        train = self.counts["train"]
        limit = config.model.max_length
        dtype = config.model.dtype
        rows = len(train)
        tokens = int(train.column("tokens").sum())
        trained = int(train.column("trained_tokens").sum())
        return estimate_training(config.train, dimensions, rows, tokens, trained, limit, dtype)

    def count_budget(self, config: Config, dimensions: ModelDimensions | None) -> int | None:
        """Count the forward-pass tokens that cost as much compute as training.

        Returns:
            The tokens if the prompted arms get the training budget. Otherwise None, so that a
            change of the training recipe does not make them answer again.
        """
        if config.prompt.search.budget != "training":
            return None
        train = self.counts["train"]
        return count_forward_tokens(
            config.train, dimensions, len(train), int(train.column("tokens").sum())
        )
