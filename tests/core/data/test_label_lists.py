"""Targets that list labels: how they are read, and that answers have their form and order."""

import pytest

from stages.core.data.label_lists import find_form, order_labels, read_labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a, b", ["a", "b"]),
        (" [a,b , a] ", ["a", "b"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ("(x)", ["x"]),
        ("[]", []),
        ("", []),
        ("f(x), [y]", ["f(x)", "[y]"]),  # no pair of brackets around the list
        ("[a}", ["[a}"]),
        ("[1, 2]", ["1", "2"]),
        ("[" * 100_000, ["[" * 100_000]),
    ],
)
def test_a_target_is_read(text, labels):
    assert read_labels(text, ",") == labels


@pytest.mark.parametrize(
    "targets",
    [
        ["a, b", "b", "a, b, c"],
        ["[a; b]", "[]", "[c; a; b]"],
        ['["a", "c, d"]', "[]", '["é"]'],
        ['["a","b"]', '["b","c","d"]'],
        ["(a | b)", "(c)"],
        ["a\nb", "b", "none"],
    ],
)
def test_what_is_read_is_written_again(targets):
    separator = next((s for s in ";|\n" if s in targets[0]), ",")
    form = find_form(targets, separator)
    assert [form.write(read_labels(text, separator)) for text in targets] == targets


def test_the_form_is_that_of_most_targets_and_nothing_is_written_as_they_do():
    form = find_form(["[a,b]", "[a, b]", "[b, c]", "a", "()", "()", "[]"], ",")
    assert form.write(["x", "y"]) == "[x, y]" and form.write([]) == "()"
    assert find_form(["a, b"], ",").nothing is None


def test_labels_have_the_order_of_most_targets():
    assert order_labels([["z", "b"], ["b", "a"], ["z", "a"]]) == ["z", "b", "a"]
    assert order_labels([["z", "b"], ["z", "b"], ["b", "z"]]) == ["z", "b"]
    assert order_labels([["c", "b"], ["b", "a"], ["a", "c"]]) == ["a", "b", "c"]  # a circle
    assert order_labels([["b"], [], ["a"]]) == ["a", "b"]
