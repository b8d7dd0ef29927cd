import functools
import random
import re

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from stages.core.metrics.library import evaluate
from stages.core.metrics.metrics import METRICS_FOLDER, Metrics


@functools.cache
def metric(name):
    return evaluate.load(str(METRICS_FOLDER / name / f"{name}.py"))


def score(name, pairs, **options):
    predictions, references = zip(*pairs, strict=True)
    return metric(name).compute(predictions=predictions, references=references, **options)


@pytest.mark.parametrize(
    ("prediction", "reference", "options", "row"),
    [
        ("a, b", "b, a", {}, [4, 4]),
        ("A ,  big  c", "a,Big c", {}, [4, 4]),
        ("a, a, b", "a", {}, [2, 3]),  # a set: a counts once
        ("[a, b]", "a, b, c", {}, [4, 5]),
        ("(a, b", "a", {}, [0, 3]),  # half a bracket belongs to the item
        ("a (x), b (y)", "b (y),a (x)", {}, [4, 4]),
        ("", "", {}, [0, 0]),
        ("[]", "a", {}, [0, 1]),
        ("a; b, c", "b, c; a", {"separator": ";"}, [4, 4]),
        ("ا، ب", "ب، ا", {}, [4, 4]),
        ("猫、犬", "犬，猫", {}, [4, 4]),
        ("a、b", "a, b", {"separator": ","}, [0, 3]),
    ],
)
def test_set_f1_by_hand(prediction, reference, options, row):
    assert score("set_f1", [(prediction, reference)], **options)["rows"] == [row]


def test_set_f1_is_micro_averaged():
    assert score("set_f1", [("a,b", "a"), ("", "c,d")])["set_f1"] == pytest.approx(2 / 5)
    assert score("set_f1", [("", "")])["set_f1"] == 1


LABELS = ["joy", "anger", "fear", "none"]


def labelled(seed, rows=60):
    draw = random.Random(seed)
    return [(draw.choice([*LABELS, "what?"]), draw.choice(LABELS[:3])) for _ in range(rows)]


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_macro_f1_agree_with_sklearn(seed):
    pairs = labelled(seed)
    found, wanted = zip(*pairs, strict=True)
    shown = [(f"I say [ {p.upper()} ], not [x]", f"[{r}]") for p, r in pairs]
    f1 = f1_score(wanted, found, labels=sorted(set(wanted)), average="macro", zero_division=0)
    for rows, options in ((pairs, {}), (shown, {"pattern": r"\[(.*?)\]"})):
        assert score("accuracy", rows, **options)["accuracy"] == pytest.approx(
            accuracy_score(wanted, found)
        )
        assert score("macro_f1", rows, **options)["macro_f1"] == pytest.approx(f1)


def test_macro_f1_by_hand_by_row_and_over_resamples():
    pairs = [("a", "a"), ("b", "a"), ("b", "b"), ("z", "c")]
    result = score("macro_f1", pairs)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    rows = np.asarray(result["rows"])
    assert metric("macro_f1").row_values(rows).tolist() == [1, 0, 1, 0]
    draws = np.random.default_rng(0).integers(0, 4, (3, 2, 4))
    values = metric("macro_f1").aggregate(rows[draws].sum(axis=-2))
    for place in np.ndindex(3, 2):
        found, wanted = zip(*(pairs[row] for row in draws[place]), strict=True)
        there = f1_score(
            wanted, found, labels=sorted(set(wanted)), average="macro", zero_division=0
        )
        assert values[place] == pytest.approx(there)  # the labels that the resample has


def test_the_confusion_matrix_agrees_with_sklearn():
    pairs = labelled(0)
    found, wanted = zip(*pairs, strict=True)
    names = sorted(set(wanted))
    table = metric("macro_f1").confusion(found, wanted)
    theirs = confusion_matrix(
        wanted, [p if p in names else "other" for p in found], labels=[*names, "other"]
    )
    assert table == {"labels": names, "matrix": theirs[:-1].tolist()}
    shown = metric("macro_f1").confusion(
        [f"<{p}>" for p in found], [f"<{r}>" for r in wanted], pattern="<(.*)>"
    )
    assert shown == table


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_a_label_that_is_not_there(name):
    assert score(name, [("a", "[a]")], pattern=r"\[(.*)\]")["rows"][0][0] == 0
    for pattern, words in (
        (r"\[(.*)\]", "no label in the reference 'a'"),
        (r"\w", "no capture group"),
    ):
        with pytest.raises(ValueError, match=words):
            score(name, [("a", "a")], pattern=pattern)


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("The answer is 42.", "42", True),
        ("first 7, then 42", "#### 42", False),  # which of them?
        ("7 and then\n#### 42", "6 * 7 = 42 #### 42", True),
        (r"7 * 6 = \boxed{42}", "42", True),
        ("5 (see 2)", "2", False),
        ("5 (see 2)", "5", False),
        ("5, so 5", "5", True),
        ("1. 42", "42", False),
        ("3 million", "3", False),
        ("3 million", "3,000,000", True),
        ("$3M", "3000000", True),
        ("5 m", "5", True),
        ("3 лв. за 2", "3", False),
        ("3 млн", "3000000", True),
        ("3 लाख", "300000", True),
        ("3万", "30000", True),
        ("3 ล้านบาท", "3000000", True),
        ("答案是42。", "42", True),
        ("答案是-42。", "42", False),
        ("٣٫٥", "3.5", True),
        ("१२", "12", True),
        ("1 000 000", "1000000", True),
        (
            "1\N{NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000",
            "1000000",
            False,
        ),  # two sorts of spaces
        ("1\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000", "1000000", True),
        ("1'000'000.5", "1000000.5", True),
        ("12,34,567", "1234567", True),
        ("1,5", "1.5", False),
        ("1.234,56", "1234.56", False),
        ("12.05.2020", "12.052020", False),
        ("10²", "10", False),
        ("1½", "1", False),
        ("42 and 7", "42", False),
        ("-5", "5", False),
        ("\N{MINUS SIGN}5", "-5", True),
        ("between 3-5", "5", False),
        ("costs -$1,234,567.50 in all", "-1234567.5", True),
        ("1, 2", "12", False),
        ("1.5e3", "1500", True),
        ("1.5 x 10^3", "1,500", True),
        ("2E-3", "0.002", True),
        (".5", "0.5", True),
        ("12%", "0.12", True),
        ("12", "12 %", True),
        ("0.12%", "12%", False),
        ("100.005", "100", True),
        ("100.02", "100", False),
        ("0.001", "0", False),
        ("5 in Q3", "5", True),
        ("no idea", "5", False),
        ("Not known ", "not  known", True),
        ("7", "unknown", False),
        ("9" * 400, "1", False),
        ("9" * 400, "9" * 400, True),
    ],
)
def test_numeric_match_by_hand(prediction, reference, right):
    assert score("numeric_match", [(prediction, reference)])["rows"] == [[right, 1]]


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("1,5", "1,5", True),
        ("3,5", "1,5", False),
        ("1.234,56", "1234,56", True),
        ("1 234,56 лв.", "1.234,56", True),
        ("1.234", "1234", True),
        ("1.5", "1,5", False),
        ("1.5", "15", False),
        ("2,5 Millionen", "2500000", True),
        ("-0,5 %", "-0,5", True),
        ("1,2e3", "1200", True),
    ],
)
def test_a_decimal_comma(prediction, reference, right):
    assert score("numeric_match", [(prediction, reference)], decimal=",")["rows"] == [[right, 1]]


def test_the_last_number_where_that_is_wanted_and_where_the_form_is_forgiven():
    pairs = [("first 7, then 42", "2 * 21 = 42"), ("42 or 7", "42"), ("42", "42"), ("none", "42")]
    assert [row[0] for row in score("numeric_match", pairs, which="last")["rows"]] == [1, 0, 1, 0]
    metrics = Metrics(["numeric_match"], {})
    answers = [prediction for prediction, _ in pairs]
    assert metrics.lenient_scores("numeric_match", answers, ["42"] * 4).values.tolist() == [
        1,
        0,
        1,
        0,
    ]
    assert metrics.well_formed("numeric_match", [*answers, "1,5"], ["42"]) == [
        False,
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("reference", "options", "said"),
    [
        ("5 (see 2)", {}, "several numbers; set which=last"),
        ("1,5", {}, "set decimal=','"),
        ("1.234,56", {}, "set decimal=','"),
        ("1.5", {"decimal": ","}, r"set decimal='\.'"),
        ("1.2.3", {"which": "last"}, "or choose exact_match"),
        ("1", {"decimal": ";"}, "decimal must be"),
        ("1", {"which": "first"}, "which must be only or last"),
    ],
)
def test_a_target_without_one_number_is_named(reference, options, said):
    with pytest.raises(ValueError, match=said):
        score("numeric_match", [("1", reference)], **options)


def test_the_tolerance_of_numeric_match():
    pairs = [("104", "100"), ("106", "100"), ("-96", "-100"), ("96", "-100")]
    assert [row[0] for row in score("numeric_match", pairs, relative=0.05)["rows"]] == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="relative"):
        score("numeric_match", pairs, relative=-1)


WORDS = [
    "the",
    "a",
    "cat",
    "dog,",
    "sat",
    "(on)",
    "ate",
    "3.5",
    "fish",
    "&",
    "chips!",
    "größer",
    "猫が",
]


def corpus(seed, rows=40):
    """Texts near their references, among them empty and short ones."""
    draw = random.Random(seed)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(0, 12))) for _ in range(rows)]
    near = [
        " ".join(w if draw.random() < 0.8 else draw.choice(WORDS) for w in r.split())
        for r in references
    ]
    return list(zip(near, references, strict=True))


CORPORA = [
    *map(corpus, range(5)),
    [("", "a")],
    [("a b", "a b")],
    [("x y z w v", "a b c d e")],
    [("", "")],
]


@pytest.mark.parametrize("pairs", CORPORA)
@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_bleu_and_chrf_are_sacrebleus(name, pairs):
    found, wanted = zip(*pairs, strict=True)
    whole = getattr(sacrebleu, f"corpus_{name}")
    one = getattr(sacrebleu, f"sentence_{name}")
    result = score(name, pairs)
    assert result[name] == pytest.approx(whole(found, [wanted]).score / 100, abs=1e-9)
    values = metric(name).row_values(np.asarray(result["rows"]))
    assert values == pytest.approx([one(p, [r]).score / 100 for p, r in pairs], abs=1e-9)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_a_resample_is_a_corpus(name):
    pairs = corpus(9)
    rows = np.asarray(score(name, pairs)["rows"])
    draws = np.random.default_rng(0).integers(0, len(pairs), (2, 3, len(pairs)))
    values = metric(name).aggregate(rows[draws].sum(axis=-2))
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(
        score(name, [pairs[row] for row in draws[1, 2]])[name], abs=1e-12
    )


@pytest.mark.parametrize("kind", ["rougeL", "rouge1", "rouge2"])
@pytest.mark.parametrize("tokenizer", ["rouge_score", "unicode"])
def test_rouge_is_the_mean_of_rouge_score(kind, tokenizer):
    pairs = corpus(3)
    if tokenizer == "unicode":  # the same for words of a to z, of which a pair needs two
        pairs = [
            pair
            for pair in pairs
            if "".join(pair).isascii() and len(re.findall(r"\w+", pair[1])) > 1
        ]
    theirs = [RougeScorer([kind]).score(r, p)[kind].fmeasure for p, r in pairs]
    result = score("rouge", pairs, kind=kind, tokenizer=tokenizer)
    assert (
        result["rouge"] == pytest.approx(np.mean(theirs))
        and [row[0] for row in result["rows"]] == theirs
    )


def test_rouge_by_hand():
    assert score("rouge", [("the cat sat", "the cat on the mat")])["rouge"] == pytest.approx(
        2 * 2 / (3 + 5)
    )
    with pytest.raises(
        ValueError, match="unknown kind rougeLsum; choose from rougeL, rouge1, rouge2"
    ):
        score("rouge", [("a", "a")], kind="rougeLsum")
    with pytest.raises(
        ValueError, match="unknown tokenizer words; choose from unicode, rouge_score"
    ):
        score("rouge", [("a", "a")], tokenizer="words")


def test_rouge_of_targets_with_too_few_words_is_that_of_equal_texts():
    pairs = [("👍", "👍"), ("", "👍"), ("👎", "👍")]
    assert [row[0] for row in score("rouge", pairs)["rows"]] == [1, 0, 0]
    assert [
        row[0]
        for row in score("rouge", [("Yes", "yes"), ("yes it is", "yes")], kind="rouge2")["rows"]
    ] == [1, 0]


def test_a_tokenizer_of_bleu():
    pairs = [("猫が魚を食べた", "猫は魚を食べた"), ("今日は雨だ", "今日は晴れだ")]
    found, wanted = zip(*pairs, strict=True)
    theirs = sacrebleu.corpus_bleu(found, [wanted], tokenize="char").score / 100
    assert (
        score("bleu", pairs)["bleu"]
        == score("bleu", pairs, tokenizer="char")["bleu"]
        == pytest.approx(theirs)
    )
    with pytest.raises(
        ValueError, match="unknown tokenizer flores200; choose from 13a, intl, char"
    ):
        score("bleu", pairs, tokenizer="flores200")
