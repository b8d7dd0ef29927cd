import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.metrics.cut_answers import may_become
from stages.core.metrics.metrics import Metrics


@pytest.mark.parametrize(
    ("answer", "target", "possible"),
    [
        ("", "NUM", True),
        ("N", "NUM", True),
        ("num", "NUM", True),
        ("You can find a list of", "NUM", False),
        ("NUMBER", "NUM", False),
        ("DOCULANES", "DESC", False),
        ("**An ans", "answer", True),
        ("th", "answer", True),
        ("the answ", "an answer", True),
        ("The capital is Pa", "Paris", False),
        ("e\u0301te", "Été chaud", True),
        ("number 1", "number 12", True),
    ],
)
def test_a_cut_answer_may_become_the_target_if_the_target_begins_like_it(answer, target, possible):
    assert may_become(answer, target) is possible


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
WORDS = st.lists(st.sampled_from(["the", "a", "An", "x", "Été", "12", "don't", "-", "ﬁ", "각"]))


@given(TEXTS | WORDS.map(" ".join), st.data())
def test_no_beginning_of_a_right_answer_is_ruled_out(target, data):
    names = ["unicode", "case", "articles", "punctuation", "spaces"]
    metric = MATCH.prepared("exact_match", [target])
    metric.prepare([target], normalise=names)
    variants = [target, target.upper(), f"the {target}", f"“{target}.", target.replace(" ", "  ")]
    for right in variants:
        if metric.normalised(right) == metric.normalised(target):
            end = data.draw(st.integers(0, len(right)))
            assert metric.may_become_right(right[:end], target)


MATCH = Metrics(["exact_match", "accuracy", "rouge"], {})


def test_a_metric_rules_out_only_what_it_can_read():
    for name, options, possible in (
        ("exact_match", {}, False),
        ("accuracy", {}, False),
        ("accuracy", {"pattern": r"label: (\w+)"}, True),
        ("rouge", {}, True),
    ):
        metric = Metrics([name], {name: options}).prepared(name, ["label: NUM"])
        assert metric.may_become_right("Let me think", "label: NUM") is possible
