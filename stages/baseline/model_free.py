"""Answer from the training targets alone, without a model.

A model that does not beat these arms is not needed.

- `constant` always gives the most frequent training target.
- `nearest` gives the target of the most similar training row.
- `lookup` finds the names from the training targets in the question. It applies if targets are made
  of parts of their questions, such as a list of entities or a span of the question.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Protocol

from stages.baseline.retrieval import Retriever
from stages.core.config.arms import MODEL_FREE_ARMS
from stages.core.data.entities import (
    NO_ENTITIES,
    Entity,
    find_kinds,
    get_words,
    list_entities,
    write_entities,
)
from stages.core.data.predictions import Prediction, summarize_predictions, write_predictions
from stages.core.data.records import Record

# `lookup` applies if at least this share of the training targets occurs in their questions.
PART_OF_QUESTION = 0.5
LONGEST_NAME = 12  # words

Words = tuple[str, ...]
Answering = Callable[[Sequence[Record]], list[str]]


class Dictionary(Protocol):
    """A dictionary that `lookup` learns from the training split."""

    coverage: float
    """The share of the training targets, or of the names in them, that occurs in the question."""

    def answer(self, question: str) -> str:
        """Answer a question."""


def answer_without_model(
    retriever: Retriever, train: Sequence[Record], rows: Sequence[Record]
) -> dict[str, Any]:
    """Answer the rows with the arms without a model and write their predictions.

    Args:
        retriever: An index of the training split.
        train: The training split.
        rows: The rows to answer.

    Returns:
        The headline numbers of each arm that applies.
    """
    answering = get_answering(retriever, train)
    numbers = {}
    for arm in MODEL_FREE_ARMS:
        answers = _time(arm, answering[arm], rows) if arm in answering else []
        write_predictions(arm, answers)
        if answers:
            numbers[arm] = summarize_predictions(answers)
    return numbers


def get_answering(retriever: Retriever, train: Sequence[Record]) -> dict[str, Answering]:
    """Return a function from records to answers for each arm that applies."""
    dictionary = get_dictionary(train)
    constant = get_constant(train)
    found: dict[str, Answering] = {
        "constant": lambda records: [constant] * len(records),
        "nearest": lambda records: [nearest[-1].target for nearest in retriever.search(records, 1)],
    }
    if dictionary.coverage >= PART_OF_QUESTION:
        found["lookup"] = lambda records: [dictionary.answer(record.question) for record in records]
    return found


def get_constant(train: Sequence[Record]) -> str:
    """Return the most frequent target, or the alphabetically first of equally frequent ones."""
    counts = Counter(record.target for record in train)
    return min(counts, key=lambda target: (-counts[target], target))


def get_dictionary(train: Sequence[Record]) -> Dictionary:
    """Return a dictionary of entities if the targets list entities, else one of whole targets."""
    kinds = find_kinds(record.target for record in train)
    return EntityDictionary(train, kinds) if kinds else TargetDictionary(train)


class TargetDictionary:
    """Answers with the longest training target in the question, else with the most frequent one."""

    def __init__(self, train: Sequence[Record]) -> None:
        self._constant = get_constant(train)
        self._spelled: dict[Words, str] = {}
        inside = 0
        for target in sorted({record.target for record in train}):
            if words := _split(target):
                self._spelled.setdefault(words, target)
        for record in train:
            words = _split(record.target)
            inside += bool(words) and words in set(_runs(_split(record.question), [len(words)]))
        self.coverage = inside / max(len(train), 1)
        self._lengths = _get_lengths(self._spelled)

    def answer(self, question: str) -> str:
        """Return the longest training target in the question, else the most frequent one."""
        found = (
            self._spelled[run]
            for run in _runs(_split(question), self._lengths)
            if run in self._spelled
        )
        return next(found, self._constant)


class EntityDictionary:
    """Answers with every known entity name in the question and the name's most frequent type."""

    def __init__(self, train: Sequence[Record], kinds: Sequence[str]) -> None:
        types = {kind.lower() for kind in kinds}
        counts: dict[Words, Counter[str]] = defaultdict(Counter)
        nothing: Counter[str] = Counter()
        inside = 0
        for record in train:
            entities = list_entities(record.target, types)
            nothing[record.target] += not entities
            question = _split(record.question)
            for entity in entities:
                words = _split(entity.name)
                counts[words][entity.kind] += 1
                inside += bool(words) and words in set(_runs(question, [len(words)]))
        counts.pop((), None)
        self._types = {words: of.most_common(1)[0][0] for words, of in counts.items()}
        self._nothing = nothing.most_common(1)[0][0] if nothing.total() else NO_ENTITIES
        self.coverage = inside / max(sum(of.total() for of in counts.values()), 1)
        self._lengths = _get_lengths(self._types)

    def answer(self, question: str) -> str:
        """List the known names in the question.

        Of overlapping names the one that begins first counts. If several begin there, the longest
        counts.
        """
        words = get_words(question)
        texts = [question[start:end].casefold() for start, end in words]
        found = []
        position = 0
        while position < len(words):
            length = self._match(texts, position)
            if length:
                name = question[words[position][0] : words[position + length - 1][1]]
                found.append(Entity(name, self._types[tuple(texts[position : position + length])]))
            position += max(length, 1)
        return write_entities(found, self._nothing)

    def _match(self, texts: Sequence[str], position: int) -> int:
        """Return the number of words in the longest name that begins here, or 0."""
        left = len(texts) - position
        fits = (
            n
            for n in self._lengths
            if n <= left and tuple(texts[position : position + n]) in self._types
        )
        return next(fits, 0)


def _split(text: str) -> Words:
    return tuple(text[start:end].casefold() for start, end in get_words(text))


def _get_lengths(names: dict[Words, str]) -> list[int]:
    """Return the different numbers of words that names have, the largest first."""
    return sorted({len(words) for words in names if len(words) <= LONGEST_NAME}, reverse=True)


def _runs(words: Words, lengths: Sequence[int]) -> Iterator[Words]:
    """Yield every run of words that has one of these lengths, in the order of the lengths."""
    for length in lengths:
        for start in range(len(words) - length + 1):
            yield words[start : start + length]


def _time(arm: str, answering: Answering, rows: Sequence[Record]) -> list[Prediction]:
    started = perf_counter()
    texts = answering(rows)
    seconds = (perf_counter() - started) / max(len(rows), 1)
    return [
        Prediction(record.id, arm, text, 0, 0, seconds)
        for record, text in zip(rows, texts, strict=True)
    ]
