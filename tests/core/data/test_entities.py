import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.data.entities import (
    Entity,
    Span,
    align,
    find_kinds,
    find_tokens,
    get_spans,
    get_words,
    is_tag,
    list_entities,
    read_tags,
    tags_of_words,
    write_entities,
)

KINDS = {"org", "person"}


def round_trip(text, target):
    words = get_words(text)
    tags, lost = align(text, words, list_entities(target, KINDS))
    return write_entities(read_tags(text, words, tags)), lost


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ('Acme Bank ( " Bank " ) and Ann', "[Acme Bank - ORG, Bank - ORG, Ann - PERSON]"),
        ("Bank pays Bank", "[Bank - ORG, Bank - ORG]"),  # one after the other
        ("the bank of Bank Inc .", "[Bank Inc . - ORG]"),
        ("Smith, Jones & Co met Ann-Marie.", "[Smith, Jones & Co - ORG, Ann-Marie - PERSON]"),
        ("U.S. Steel", "[U.S. Steel - ORG]"),
        ("東京銀行と佐藤さん", "[東京銀行 - ORG, 佐藤 - PERSON]"),  # no spaces between words
        ("Nobody came.", "No entities found"),
    ],
)
def test_names_are_found_in_the_text_and_listed_again(text, target):
    assert round_trip(text, target) == (target, 0)


@pytest.mark.parametrize(
    ("text", "target", "again", "lost"),
    [
        (
            "ACME  inc. and Ann",
            "[Acme Inc . - org, ann - PERSON]",
            "[ACME inc. - org, Ann - PERSON]",
            0,
        ),
        (
            "Acme hired Ann",
            "[Ann - PERSON, Acme - ORG]",
            "[Acme - ORG, Ann - PERSON]",
            0,
        ),  # in another order
        ("Acme hired Ann", "[Ann - PERSON, Bob - PERSON]", "[Ann - PERSON]", 1),
        ("Acme hired Annabel", "[Ann - PERSON]", "No entities found", 1),  # a part of a word
        ("Acme Bank", "[Acme Bank - ORG, Bank - ORG]", "[Acme Bank - ORG]", 1),  # one in the other
        ("Acme hired Ann", "[! - ORG]", "No entities found", 1),
        ("Acme", "[ - ORG]", "No entities found", 1),
    ],
)
def test_names_as_they_stand_in_the_text_win(text, target, again, lost):
    assert round_trip(text, target) == (again, lost)


def test_an_occurrence_after_the_last_entity_comes_first():
    words = get_words("Ann met Bob and Ann")
    tags, _ = align(
        "Ann met Bob and Ann", words, [Entity("Bob", "PERSON"), Entity("Ann", "PERSON")]
    )
    assert [i for i, tag in enumerate(tags) if tag != "O"] == [2, 4]


def test_types_are_found_in_the_targets():
    targets = [
        "[Ann - PER, Acme - ORG]",
        "[Bob - PER, B - A Inc, Rome - LOC, Acme - ORG]",
        "none",
        "[Acme - org]",
    ]
    assert find_kinds(targets) == ["ORG", "PER"]  # LOC stands after one name, and so does "A Inc"
    assert find_kinds([*targets, "[Bonn - LOC, Acme - ORG]"]) == ["LOC", "ORG", "PER"]
    assert find_kinds(["a text", "[]", "a - b"]) == []


def test_tags_mean_spans():
    tags = ["B-A", "I-A", "B-A", "O", "I-B", "I-A", "B-B", "I-B"]
    assert get_spans(tags) == [
        Span(0, 2, "A"),
        Span(2, 3, "A"),
        Span(4, 5, "B"),
        Span(5, 6, "A"),
        Span(6, 8, "B"),
    ]
    assert [
        tag for tag in ("O", "B-X", "I-a b", "B-", "X-PER", "PER", "", 3, None) if is_tag(tag)
    ] == [
        "O",
        "B-X",
        "I-a b",
    ]


@given(
    st.lists(
        st.sampled_from(["O", "B-ORG", "I-ORG", "B-PERSON", "I-PERSON"]), min_size=1, max_size=20
    )
)
def test_what_is_listed_is_tagged_again(tags):
    text = " ".join(f"w{i}" for i in range(len(tags)))
    words = get_words(text)
    again, lost = align(
        text, words, list_entities(write_entities(read_tags(text, words, tags)), KINDS)
    )
    assert get_spans(again) == get_spans(tags) and lost == 0


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        ("हिन्दी बैंक में अनीता", "[हिन्दी बैंक - ORG, अनीता - PERSON]", 4),
        ("అనిత రావు హైదరాబాద్ బ్యాంక్‌లో", "[అనిత రావు - PERSON]", 4),
        ("അനിത മേനോൻ കേരള ബാങ്കിൽ", "[അനിത മേനോൻ - PERSON]", 4),
        ("سارا می‌رود", "[سارا - PERSON]", 2),
        ("ธนาคารไทย กับสมชาย", "[ธนาคารไทย - ORG, สมชาย - PERSON]", 16),
        ("王小明在北京银行", "[王小明 - PERSON, 北京银行 - ORG]", 8),
    ],
)
def test_words_of_every_script_are_tagged_whole(text, target, words):
    assert len(get_words(text)) == words
    assert round_trip(text, target) == (target, 0)


@given(st.text(max_size=40), st.text(alphabet="[], -abORG\n", max_size=40))
def test_no_text_breaks_it(text, target):
    words = get_words(text)
    listed = list_entities(target, KINDS)
    tags, lost = align(text, words, listed)
    assert len(tags) == len(words)
    assert len(read_tags(text, words, tags)) + lost == len(listed)  # each one is found or lost
    round_trip(text, target)


def test_a_word_has_its_first_token_and_may_share_it():
    words = get_words("Inc., Rome now")  # Inc . , Rome now
    offsets = [
        (0, 0),
        (0, 2),
        (2, 3),
        (3, 5),
        (5, 8),
        (8, 10),
        (0, 0),
    ]  # Inc in two, "., " in one, " Ro", "me"; then cut
    tokens = find_tokens(words, offsets)
    assert tokens == [1, 3, 3, 4, None]
    tags = ["O", "B-ORG", "O", "B-LOC", "B-LOC", "O", "O"]
    assert tags_of_words(tokens, tags) == ["B-ORG", "B-LOC", "I-LOC", "B-LOC", "O"]
