"""Each metric in ten scripts: perfect answers score 1, however they are encoded, and partly right ones less."""

import unicodedata

import pytest

from stages.core.data.unicode_text import get_script
from stages.core.errors import UserError
from stages.core.metrics.metric_check import check_metrics
from stages.core.metrics.metrics import Metrics
from tests.conftest import chat
from tests.core.metrics.scripts import LANGUAGES

EVERY = pytest.mark.parametrize("language", LANGUAGES.values(), ids=list(LANGUAGES))
TEXT_METRICS = ("exact_match", "rouge", "bleu", "chrf", "set_f1")
ENTITIES = "[{0.person} - PERSON{0.comma}{0.bank} - ORGANIZATION]"


@pytest.fixture(scope="module")
def metrics():
    return Metrics(
        [
            *TEXT_METRICS,
            "accuracy",
            "macro_f1",
            "entity_f1",
            "numeric_match",
            "json_match",
            "json_f1",
        ],
        {},
    )


def value(metrics, name, predictions, references):
    return metrics.only(name).score(predictions, references)[name].value


@EVERY
def test_the_script_of_a_sentence(language):
    assert {get_script(sentence) for sentence in language.sentences} == {language.script}


@EVERY
@pytest.mark.parametrize("name", TEXT_METRICS)
def test_perfect_partly_right_and_empty_sentences(metrics, language, name):
    check_metrics(metrics.only(name), [chat("?", text) for text in language.sentences], seed=0)
    halves = [text[: len(text) // 2] for text in language.sentences]
    least = 0.1 if name in ("rouge", "bleu", "chrf") else 0
    assert least <= value(metrics, name, halves, language.sentences) < 1


@EVERY
@pytest.mark.parametrize("name", TEXT_METRICS)
def test_the_encoding_does_not_count(metrics, language, name):
    other = [
        f"\ufeff{unicodedata.normalize('NFD', text)}\u200b\u200e" for text in language.sentences
    ]
    assert value(metrics, name, other, language.sentences) == 1


@EVERY
def test_labels_are_told_from_their_form(metrics, language):
    yes = language.yes
    no = language.no
    references = [yes, yes, yes, yes, no, no]
    answers = [yes, f"**{yes}**", f"Answer: {yes}.", no, f"_{no}_", f"{yes}, {no}?"]
    for name in ("accuracy", "macro_f1"):
        check_metrics(metrics.only(name), [chat("?", text) for text in references], seed=0)
        assert metrics.well_formed(name, answers, references) == [
            True,
            False,
            False,
            True,
            False,
            False,
        ]
        assert metrics.lenient_scores(name, answers, references).values.tolist() == [
            1,
            1,
            1,
            0,
            1,
            0,
        ]
    assert value(metrics, "accuracy", answers, references) == pytest.approx(1 / 6)


@EVERY
def test_entities_however_they_are_written(metrics, language):
    target = ENTITIES.format(language)
    rows = [chat("?", target), chat("?", "No entities found")]
    check_metrics(metrics.only("entity_f1"), rows, seed=0)
    for dash in (" – ", " — ", "-", "–"):
        for comma in (", ", "، ", "、", "，", language.comma):
            answer = unicodedata.normalize(
                "NFD", target.replace(" - ", dash).replace(language.comma, comma)
            )
            assert value(metrics, "entity_f1", [answer], [target]) == 1
            assert metrics.well_formed("entity_f1", [answer], [target]) == [True]
    wrong = target.replace("ORGANIZATION", "LOCATION")
    assert value(metrics, "entity_f1", [wrong], [target]) == 0.5


@EVERY
def test_numbers_in_digits_of_their_own(metrics, language):
    said = f"{language.yes}: {language.twelve}."
    assert (
        value(metrics, "numeric_match", [language.twelve, said, f"-{language.twelve}"], ["12"] * 3)
        == 2 / 3
    )
    check_metrics(metrics.only("numeric_match"), [chat("?", said)], seed=0)


@EVERY
@pytest.mark.parametrize("name", ["json_match", "json_f1"])
def test_json(metrics, language, name):
    target = f'{{"a": "{language.sentences[0]}", "{language.yes}": 1}}'
    check_metrics(metrics.only(name), [chat("?", target)], seed=0)
    assert metrics.well_formed(name, [target.replace(":", ": "), f"JSON: {target}"], [target]) == [
        True,
        False,
    ]


@EVERY
def test_the_words_of_rouge_score_are_refused_where_there_are_none(language):
    records = [chat("?", text) for text in language.sentences]
    metrics = Metrics(["rouge"], {"rouge": {"tokenizer": "rouge_score"}})
    if language.script == "Latin":
        return check_metrics(metrics, records, seed=0)
    said = rf"rouge scores a perfect answer 0\.000.*script: {language.script}.*tokenizer=unicode"
    with pytest.raises(UserError, match=said):
        check_metrics(metrics, records, seed=0)


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [("English", "13a"), ("Bulgarian", "intl"), ("Hindi", "intl"), ("Thai", "char"), ("Chinese", "zh"),
     ("Japanese", "char")],
)  # fmt: skip
def test_the_tokenizer_of_bleu_follows_the_script_and_is_reported(name, tokenizer):
    sentences = LANGUAGES[name].sentences
    metrics = Metrics(["bleu"], {})
    metrics.score(sentences, sentences)
    assert metrics.metadata()["bleu"]["tokenizer"] == tokenizer


def test_bleu_by_the_words_of_a_script_without_spaces_is_refused():
    records = [chat("?", text) for text in LANGUAGES["Thai"].sentences]
    with pytest.raises(
        UserError, match=r"bleu scores perfect answers 0\.000.*script: Thai.*tokenizer=char"
    ):
        check_metrics(Metrics(["bleu"], {"bleu": {"tokenizer": "13a"}}), records, seed=0)
