import functools
import random

import evaluate
import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from stages.core.metrics import METRICS


@functools.cache
def metric(name):
    return evaluate.load(str(METRICS / name / f"{name}.py"))


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
        assert score("accuracy", rows, **options)["accuracy"] == pytest.approx(accuracy_score(wanted, found))
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
        there = f1_score(wanted, found, labels=sorted(set(wanted)), average="macro", zero_division=0)
        assert values[place] == pytest.approx(there)  # the labels that the resample has


def test_the_confusion_matrix_agrees_with_sklearn():
    pairs = labelled(0)
    found, wanted = zip(*pairs, strict=True)
    names = sorted(set(wanted))
    table = metric("macro_f1").confusion(found, wanted)
    theirs = confusion_matrix(wanted, [p if p in names else "other" for p in found], labels=[*names, "other"])
    assert table == {"labels": names, "matrix": theirs[:-1].tolist()}
    shown = metric("macro_f1").confusion([f"<{p}>" for p in found], [f"<{r}>" for r in wanted], pattern="<(.*)>")
    assert shown == table


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_a_label_that_is_not_there(name):
    assert score(name, [("a", "[a]")], pattern=r"\[(.*)\]")["rows"][0][0] == 0
    for pattern, words in ((r"\[(.*)\]", "no label in the reference 'a'"), (r"\w", "no group")):
        with pytest.raises(ValueError, match=words):
            score(name, [("a", "a")], pattern=pattern)


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("The answer is 42.", "42", True),
        ("first 7, then 42", "#### 42", True),
        ("42 and 7", "42", False),
        ("-5", "5", False),
        ("\N{MINUS SIGN}5", "-5", True),
        ("between 3-5", "5", True),
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


def test_the_tolerance_of_numeric_match():
    pairs = [("104", "100"), ("106", "100"), ("-96", "-100"), ("96", "-100")]
    assert [row[0] for row in score("numeric_match", pairs, relative=0.05)["rows"]] == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="relative"):
        score("numeric_match", pairs, relative=-1)


WORDS = ["the", "a", "cat", "dog,", "sat", "(on)", "ate", "3.5", "fish", "&", "chips!", "größer", "猫が"]


def corpus(seed, rows=40):
    """Texts near their references, among them empty and short ones."""
    draw = random.Random(seed)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(0, 12))) for _ in range(rows)]
    near = [" ".join(w if draw.random() < 0.8 else draw.choice(WORDS) for w in r.split()) for r in references]
    return list(zip(near, references, strict=True))


CORPORA = [*map(corpus, range(5)), [("", "a")], [("a b", "a b")], [("x y z w v", "a b c d e")], [("", "")]]


@pytest.mark.parametrize("pairs", CORPORA)
@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_bleu_and_chrf_are_sacrebleus(name, pairs):
    found, wanted = zip(*pairs, strict=True)
    whole, one = getattr(sacrebleu, f"corpus_{name}"), getattr(sacrebleu, f"sentence_{name}")
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
    assert values[1, 2] == pytest.approx(score(name, [pairs[row] for row in draws[1, 2]])[name], abs=1e-12)


@pytest.mark.parametrize("kind", ["rougeL", "rouge1", "rouge2"])
def test_rouge_is_the_mean_of_rouge_score(kind):
    pairs = corpus(3)
    theirs = [RougeScorer([kind]).score(r, p)[kind].fmeasure for p, r in pairs]
    result = score("rouge", pairs, kind=kind)
    assert result["rouge"] == pytest.approx(np.mean(theirs)) and [row[0] for row in result["rows"]] == theirs


def test_rouge_by_hand():
    assert score("rouge", [("the cat sat", "the cat on the mat")])["rouge"] == pytest.approx(2 * 2 / (3 + 5))
    with pytest.raises(ValueError, match="unknown kind rougeLsum; there are rougeL, rouge1, rouge2"):
        score("rouge", [("a", "a")], kind="rougeLsum")
