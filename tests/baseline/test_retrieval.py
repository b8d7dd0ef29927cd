"""The retrieval arm finds the right row in every script, also for a question that it has not seen."""

import unicodedata

import pytest
import regex

from stages.baseline.retrieval import BM25Index
from tests.baseline.questions import LANGUAGES
from tests.conftest import chat

EVERY = pytest.mark.parametrize("language", LANGUAGES.values(), ids=list(LANGUAGES))


def split(language, question):
    """Split a question into words, or into characters if its script has no spaces."""
    plain = question.rstrip("?？؟")
    return plain.split() if language.spaced else regex.findall(r"\X", plain)


def turned(language, question):
    """Say the second half first, as another speaker would order the words."""
    parts = split(language, question)
    half = len(parts) // 2
    return (" " if language.spaced else "").join(parts[half:] + parts[:half])


def shortened(language, question):
    """Leave out the last word, or the last fifth of the characters."""
    parts = split(language, question)
    kept = parts[:-1] if language.spaced else parts[: -len(parts) // 5]
    return (" " if language.spaced else "").join(kept)


def asked_kindly(language, question):
    """Put the same polite words before every question, and encode the text differently."""
    return unicodedata.normalize("NFD", language.please + shortened(language, question))


def same(_, question):
    return question


@EVERY
@pytest.mark.parametrize("change", [same, turned, shortened, asked_kindly])
def test_a_question_is_found_among_those_of_its_language(language, change):
    assert len(set(language.questions)) == 20
    index = BM25Index([chat(question, question) for question in language.questions])
    found = index.search([chat(change(language, q), "?") for q in language.questions], 1)
    right = sum(row[-1].target == q for row, q in zip(found, language.questions, strict=True))
    assert right >= 0.9 * 20


@EVERY
def test_a_question_is_found_among_those_of_all_languages(language):
    every = [question for other in LANGUAGES.values() for question in other.questions]
    index = BM25Index([chat(question, question) for question in every])
    found = index.search([chat(turned(language, q), "?") for q in language.questions], 1)
    right = sum(row[-1].target == q for row, q in zip(found, language.questions, strict=True))
    assert right >= 0.9 * 20
