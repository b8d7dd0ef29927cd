from dataclasses import replace

from stages.core.data.groups import count_groups, get_groups
from tests.conftest import chat


def row(question, **meta):
    return replace(chat(question, "a"), meta=meta)


def test_rows_without_companions_are_no_groups():
    assert get_groups([row("a"), row("b")]) is None and count_groups([row("a"), row("b")]) == 2


def test_near_duplicates_are_one_observation():
    rows = [row("a", cluster="1"), row("b", cluster="1"), row("c"), row("d", cluster="2")]
    assert get_groups(rows).tolist() == [0, 0, 1, 2]


def test_a_cluster_joins_the_groups_and_the_equal_question_of_its_rows():
    rows = [row("a", cluster="1", group="g"), row("b", cluster="1", group="h"), row(" A ")]
    assert get_groups(rows).tolist() == [0, 0, 0]


def test_groups_that_no_cluster_joins_stay_apart():
    rows = [row("same", group="g"), row("same", group="h"), row("other", group="g")]
    assert get_groups(rows).tolist() == [0, 1, 0]


def test_two_clusters_with_one_question_stay_apart():
    rows = [row("same", cluster="1"), row("same", cluster="2")]
    assert get_groups(rows) is None
