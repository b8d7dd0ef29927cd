import importlib.util
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import UserError
from stages.core.metrics.metrics import METRICS_FOLDER, Metrics
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def metrics():
    return Metrics(["exact_match", "entity_f1"], {})


def load_module(name):
    spec = importlib.util.spec_from_file_location(name, METRICS_FOLDER / name / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def score(metrics, name, *pairs):
    return metrics.score([p for p, _ in pairs], [r for _, r in pairs])[name]


def test_exact_match_passes_over_case_and_spacing_only(metrics):
    pairs = [("No  Entities found\n", "no entities found"), ("a", "b"), ("a.", "a"), ("", "a")]
    scores = score(metrics, "exact_match", *pairs)
    assert scores.rows.tolist() == [[1, 1], [0, 1], [0, 1], [0, 1]] and scores.values.tolist() == [
        1,
        0,
        0,
        0,
    ]
    assert scores.value == 0.25 and scores.binary


BANK = "Bank - ORGANIZATION"
ANN = "Ann Lee - PERSON"
ROME = "Rome - LOCATION"


@pytest.mark.parametrize(
    ("prediction", "reference", "numerator", "denominator"),
    [
        (f"[{BANK}, {ANN}]", f"[{BANK}, {ANN}]", 4, 4),
        (f"[{ANN}, {BANK}]", f"[{BANK}, {ANN}]", 4, 4),  # order does not count
        (f"[{BANK}]", f"[{BANK}, {BANK}]", 2, 3),  # a multiset: listed twice, found once
        (f"[{BANK}, {BANK}]", f"[{BANK}]", 2, 3),
        (f"[{BANK}, {ROME}]", f"[{BANK}, {ANN}]", 2, 4),
        ("[Bank - PERSON]", f"[{BANK}]", 0, 2),  # the type counts
        ("[bank  - organization]", f"[{BANK}]", 2, 2),
        ("No entities found", f"[{BANK}]", 0, 1),
        ("No entities found", "No entities found", 0, 0),
        (f"[{BANK}]", "No entities found", 0, 1),
        (f"[{BANK}, {ANN}, Ro", f"[{BANK}, {ANN}, {ROME}]", 4, 5),  # cut off inside a name
        (f"[{BANK}, {ANN}, Rome - LOCA", f"[{BANK}, {ANN}, {ROME}]", 4, 5),  # cut off inside a type
        (f"[{BANK}, {ANN}", f"[{BANK}, {ANN}]", 4, 4),  # only the bracket is missing
        (f"I think: [{BANK}]. Done.", f"[{BANK}]", 2, 2),
        (
            "[Smith, Jones & Co - ORGANIZATION]",
            "[Smith, Jones & Co - ORGANIZATION]",
            2,
            2,
        ),  # a comma in a name
        ("[A - B Inc - ORGANIZATION]", "[A - B Inc - ORGANIZATION]", 2, 2),  # a dash in a name
        ("", f"[{BANK}]", 0, 1),
        ("[", f"[{BANK}]", 0, 1),
        ("[Foo [US] - ORGANIZATION]", "[Foo [US] - ORGANIZATION]", 2, 2),  # a bracket in a name
        (
            "[x] gives [Foo [US] - ORGANIZATION, Bank - ORG",
            f"[Foo [US] - ORGANIZATION, {BANK}]",
            2,
            3,
        ),
        ("a [ b [Bank - ORGANIZATION]", f"[{BANK}]", 2, 2),
        ("[third-person, Inc - ORGANIZATION]", "[third-person, Inc - ORGANIZATION]", 2, 2),
        ("[STRASSE - LOCATION]", "[Straße - location]", 2, 2),
    ],
)
def test_entity_f1_by_hand(metrics, prediction, reference, numerator, denominator):
    scores = score(metrics, "entity_f1", (prediction, reference))
    assert scores.rows.tolist() == [[numerator, denominator]]


def test_entity_f1_is_micro_averaged(metrics):
    pairs = [
        (f"[{BANK}]", f"[{BANK}]"),
        ("No entities found", f"[{ANN}, {ROME}]"),
        ("x", "No entities found"),
    ]
    assert score(metrics, "entity_f1", *pairs).value == pytest.approx(2 / 4)
    assert score(metrics, "entity_f1", ("x", "No entities found")).value == 1


def test_entity_f1_knows_the_types_of_the_references_unless_it_is_told():
    pairs = [
        ("[Acme - company]", "[Acme - COMPANY]"),
        ("[Ann - PERSON]", "[Ann - PERSON]"),
        ("", "[Bob - COMPANY]"),
    ]
    assert score(Metrics(["entity_f1"], {}), "entity_f1", *pairs).value == pytest.approx(4 / 5)
    told = Metrics(["entity_f1"], {"entity_f1": {"types": ["PERSON"]}})
    assert score(told, "entity_f1", *pairs).value == 1


def test_the_module_and_the_rows_say_the_same():
    import evaluate

    for name in ("exact_match", "entity_f1"):
        module = evaluate.load(str(METRICS_FOLDER / name / f"{name}.py"))
        pairs = [(f"[{BANK}]", f"[{BANK}, {ANN}]"), ("a", "a"), (f"[{ROME}]", f"[{ROME}]")]
        whole = module.compute(predictions=[p for p, _ in pairs], references=[r for _, r in pairs])
        assert whole[name] == pytest.approx(score(Metrics([name], {}), name, *pairs).value)


@given(st.text(alphabet="[], -abPERSON\n", max_size=60))
def test_no_text_breaks_the_reading_of_entities(text):
    found = load_module("entity_f1").parse_entities(text)
    assert all(kind in {"person", "organization", "location"} for _, kind in found)


def test_a_metric_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"unknown metric 'rogue'; choose from .*exact_match"):
        Metrics(["rogue"], {})


def values(pairs, *normalise):
    options = {"exact_match": {"normalise": list(normalise)}}
    return score(Metrics(["exact_match"], options), "exact_match", *pairs).values.tolist()


ALL = ("case", "spaces", "articles", "punctuation", "unicode")


def test_the_normalisers_of_exact_match():
    pairs = [("The cat!", "a CAT"), ("①", "1"), ("cat", "Cat ")]
    assert values(pairs) == [0, 0, 0] and values(pairs, "case", "spaces") == [0, 0, 1]
    assert values(pairs, *ALL) == [1, 1, 1]
    with pytest.raises(
        UserError, match=r"evaluate\.options\.exact_match: unknown normaliser colour"
    ):
        values(pairs, "colour")


@pytest.mark.parametrize(
    ("prediction", "reference", "same"),
    [
        ("", "A", False),  # the choice A, no article
        ("the", "A", False),
        ("A.", "A", True),
        ("vitamin", "vitamin A", False),
        ("The end", "end", True),
        ("?", "!", False),
        ("", "...", False),
        ("15", "1.5", False),
        ("-5", "5", False),
        ("(-5)", "-5", True),
        (".5", "5", False),
        ("5 %", "5%", False),
        ("5%", "5", False),
        ("1,000.", "1,000", True),
        ("10:30", "1030", False),
        ("well-known", "wellknown", True),
        ("10²", "102", False),
        ("1½", "11/2", False),
        ("ｆｕｌｌ", "full", True),
        ("كتاب علي", "کتاب علی", True),
        ("ہاں", "هاں", True),
        ("١٢", "12", True),
        ("نـــعم", "نعم", True),
    ],
)
def test_normalisers_leave_what_has_a_meaning(prediction, reference, same):
    assert values([(prediction, reference)], *ALL) == [same]


def test_the_order_of_normalisers_does_not_matter():
    for names in (ALL, ALL[::-1]):
        assert values([("The  Cat.", "cat"), ("Ａ cat", "CAT")], *names) == [1, 1]
    assert (
        values([("The cat", "cat")], "articles", "case")
        == values([("The cat", "cat")], "articles")
        == [1]
    )


def test_a_content_score_of_short_targets():
    metrics = Metrics(["exact_match"], {})
    targets = ["New York", "York", "Paris", "Rome"]
    answers = ["It is **New York**.", "New York", "Paris or Rome", "rome"]
    assert metrics.lenient_scores("exact_match", answers, targets).values.tolist() == [1, 0, 0, 1]
    assert metrics.lenient_scores("exact_match", answers, [*targets[:3], "x" * 101]) is None
    assert metrics.well_formed("exact_match", ["x", " "], targets) == [True, False]


def test_which_answers_are_lists_of_entities():
    targets = [f"[{BANK}]", "No entities found", "[Acme - COMPANY]", "none [at all]"]
    metrics = Metrics(["entity_f1"], {"entity_f1": {"types": ["PERSON", "ORGANIZATION"]}})
    answers = [
        f"[{ANN}, {BANK}]",
        f"List: [{ANN}]",
        f"[{ANN}",
        f"[{ANN}, Rome]",
        "no entities found",
        "nothing",
        "[]",
    ]
    formed = [True, False, False, False, True, False, False]
    assert metrics.well_formed("entity_f1", answers, targets) == formed
    assert metrics.well_formed("entity_f1", ["[Bar - company]", "none [at all]"], targets) == [
        True,
        True,
    ]
    assert metrics.lenient_scores("entity_f1", answers, [targets[0]] * 7) is None


def test_every_metric_says_its_range():
    names = sorted(
        path.name
        for path in METRICS_FOLDER.iterdir()
        if path.is_dir() and not path.name.startswith("_")
    )
    metrics = Metrics(names, {})
    assert {name for name in names if metrics.bounds(name) is None} == {"perplexity"}
    assert {metrics.bounds(name) for name in names} == {None, (0.0, 1.0)}
    assert {name for name in names if metrics.best(name) is None} == {"perplexity", "judge"}


def test_metrics_load_without_the_packages_of_models():
    code = (
        "import sys; from stages.core.metrics.metrics import Metrics; Metrics(['exact_match'], {});"
        "assert not {'torch', 'transformers', 'scipy.stats'} & set(sys.modules);"
        "import transformers"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
