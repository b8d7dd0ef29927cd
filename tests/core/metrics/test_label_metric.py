import pytest

from stages.core.metrics.label_metric import LabelFinder

LABELS = [
    "yes",
    "no",
    "c",
    "c++",
    "toxic",
    "non-toxic",
    "是",
    "不是",
    "york",
    "new york",
    "1",
    "a",
    "b",
    "sci-fi",
]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes.", "yes"),
        ("**Yes**", "yes"),
        ("Answer: `yes`", "yes"),
        ("# Result\n- _Yes_!", "yes"),
        ("<think>hm</think>yes", "yes"),
        ("Yes—because it is so. Yes.", "yes"),
        ("yes or no", None),
        ("yesterday", None),
        ("not toxic", None),
        ("It isn't a yes", None),
        ("nano toxic", "toxic"),
        ("non-toxic", "non-toxic"),
        ("It is C++.", "c++"),
        ("NEW  YORK", "new york"),
        ("The answer is (B).", "b"),
        ("It is a dog: B", "b"),
        ("The answer is A", "a"),
        ("1.5", None),
        ("1) first", "1"),
        ("$1", None),
        ("答案：不是。", "不是"),
        ("他是", None),
        ("Sci-Fi: a film", "sci-fi"),
        ("", None),
    ],
)
def test_the_one_label_of_a_text(text, label):
    assert LabelFinder(LABELS)(text) == label


def test_without_labels_nothing_is_found():
    assert LabelFinder([])("yes") is None


@pytest.mark.parametrize(
    ("text", "label"),
    [("B", "[b]"), ("The answer is [B].", "[b]"), ("(c)", "c."), ("C#", "c#"), ("d", None)],
)
def test_the_punctuation_of_a_label_does_not_count_either(text, label):
    assert LabelFinder(["[a]", "[b]", "c.", "c#"])(text) == label
