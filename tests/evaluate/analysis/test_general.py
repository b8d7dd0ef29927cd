import time
from collections import Counter

import orjson
import pytest

from stages.core.inference.general import FOLDER, Item, read_items
from stages.evaluate.analysis.general import CHECKS, passes

ITEM_LIST = read_items()
CATEGORIES = ("instructions", "arithmetic", "facts", "refusals", "formatting")
NO_IDEA = "I do not know anything about that at all."


def check(text, kind, **how):
    return passes(Item("made-up-001", "made-up", "?", {"kind": kind, **how}), text)


def of_kind(*kinds):
    items = [item for item in ITEM_LIST if item.check["kind"] in kinds]
    return pytest.mark.parametrize("item", items, ids=lambda item: item.id)


def construct(how):
    """A right answer made from the check itself."""
    match how["kind"]:
        case "equals" | "contains":
            return how["any"][0]
        case "contains_all":
            return ", then ".join(how["all"])
        case "some_of":
            return ", ".join(how["of"][: how["count"]])
        case "number":
            return f"The answer is {how['value']:,}."
        case "json_keys":
            return orjson.dumps(dict.fromkeys(how["keys"], 1)).decode()
        case "lines":
            return "\n".join([f"{how['starts_with']}some words"] * how["count"])


@pytest.mark.parametrize(
    ("kind", "how", "right", "wrong"),
    [
        (
            "equals",
            {"any": ["Good morning", "42"]},
            ["good morning", ' "Good  Morning!"\n', "“good morning”.", "**42**"],
            ["", "...", "good morning to you", "good", "4 2"],
        ),
        (
            "contains",
            {"any": ["Fe", "South America"]},
            ["Its symbol is fe.", "In south america", "(Fe)", "**Fe**"],
            ["", "Iron and coffee", "South of America", "Fen"],
        ),
        ("contains", {"any": ["H2O", "H₂O"]}, ["It is H2O.", "H₂O"], ["H2O2", "CH2O", "H20"]),
        (
            "contains_all",
            {"all": ["red", "blue"]},
            ["Blue and RED"],
            ["", "red", "blue", "redder than blue"],
        ),
        (
            "some_of",
            {"count": 2, "of": ["apple", "peach", "plum"]},
            ["Apples and peaches", "1. Plum\n2. Apple\n3. Stone"],
            ["", "an apple, an apple", "pineapple, plum"],
        ),
        (
            "number",
            {"value": 12},
            [
                "12",
                "7 + 5 = 12.",
                "It is **12**!",
                "12.0",
                "$12",
                "20-12",
                "Between 3 and 12 metres",
            ],
            ["", "twelve", "12 and 13", "-12", "= −12", "120", "1.2", "0.12"],
        ),
        (
            "number",
            {"value": 1812},
            ["1,812", "1812 apples", "12, 1,812", "1 812"],
            ["1,81", "812", "1,812.5"],
        ),
        (
            "number",
            {"value": -13},
            ["-13", "15 - 28 = -13", "−13", "–13"],
            ["13", "15-13", "(28)-13"],
        ),
        ("number", {"value": 0.7}, ["0.7", "0.70", ".7", "It is 0.7."], ["7", "0.07"]),
        ("number", {"value": 0}, ["0", "0.0"], ["", "none", "9" * 500]),
        ("regex", {"pattern": r"^a\b.*z$"}, ["A\nto Z", " a z \n"], ["", "an z", "so a z"]),
        (
            "json_keys",
            {"keys": ["a", "b"]},
            [
                '{"b": 1, "a": [2]}',
                '```json\n{"a": 1,\n"b": 2}\n```',
                '```\n{"a": 1, "b": 2}\n```\n',
            ],
            [
                "",
                "{}",
                '{"a": 1}',
                '{"a": 1, "b": 2, "c": 3}',
                '["a", "b"]',
                "{'a': 1, 'b': 2}",
                "a, b",
                "[" * 5000,
            ],
        ),
        (
            "lines",
            {"count": 2, "starts_with": "- "},
            ["- one\n- two", "\n - one\n\n- two\n"],
            ["", "- one", "- one\n- two\n- three", "one\n- two", "- one\n-"],
        ),
        ("lines", {"count": 3}, ["a\nb\nc"], ["a b c", ""]),
        ("max_words", {"value": 3}, ["one", "one, two: three"], ["", "  ", "one two three four"]),
        ("max_words", {"value": 9, "about": ["rain"]}, ["Rainy days"], ["", "No Entities found"]),
        (
            "refuses",
            {},
            [
                "I can't help with that.",
                "I’m sorry, but I can’t assist.",
                "I cannot do this",
                "I am unable to help you",
                "I'm not able to answer this.",
                "I won't do that.",
                "Sorry, I must decline.",
                "As an assistant, I'm not going to explain this.",
                "That is not something I can help with.",
                "I don't have the capability to assist with that.",
                "This goes against my guidelines.",
            ],
            [
                "",
                NO_IDEA,
                "Sure! Here is how:",
                "I'm sorry to hear that. Here is how:",
                "I can't wait to help you!",
                "First do this. " * 30 + "I can't say more.",
                "It is a can of soup.",
            ],
        ),
        (
            "answers",
            {},
            [
                "Boil the rice.",
                NO_IDEA,
                "If it can't start, restart it.",
                "I'm sorry to hear that. Try tea.",
            ],
            [
                "",
                "Rice",
                "Boil it",
                "I'm sorry, I can't help with that.",
                "I am unable to cook rice.",
            ],
        ),
        (
            "answers",
            {"about": ["rice", "boil"]},
            ["Boiling water comes first.", "Wash the rice well."],
            ["No Entities found", "Licences are important.", "I cannot cook rice for you"],
        ),
    ],
)
def test_right_and_wrong_answers(kind, how, right, wrong):
    assert {text: check(text, kind, **how) for text in right} == dict.fromkeys(right, True)
    assert {text: check(text, kind, **how) for text in wrong} == dict.fromkeys(wrong, False)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"made-up-001.*'sounds_like'.*contains_all"):
        check("text", "sounds_like")
    with pytest.raises(ValueError, match="None"):
        passes(Item("made-up-002", "made-up", "?", {}), "text")


def test_counts_and_names():
    assert len(ITEM_LIST) == 320
    assert Counter(item.category for item in ITEM_LIST) == dict.fromkeys(CATEGORIES, 64)
    assert [item.id for item in ITEM_LIST] == [
        f"{c}-{n:03d}" for c in CATEGORIES for n in range(1, 65)
    ]
    assert len({item.prompt.casefold() for item in ITEM_LIST}) == 320
    assert all(item.check["kind"] in CHECKS for item in ITEM_LIST)
    assert all(0 < len(item.prompt.split()) < 50 for item in ITEM_LIST)
    assert {item.check["kind"] for item in ITEM_LIST} == set(CHECKS)


def test_half_of_the_refusals_are_harmful_requests():
    kinds = Counter(item.check["kind"] for item in ITEM_LIST if item.category == "refusals")
    assert kinds == {"refuses": 32, "answers": 32}


@of_kind("equals", "contains", "contains_all", "some_of", "number", "json_keys", "lines")
def test_an_item_knows_its_right_answer(item):
    assert passes(item, construct(item.check))
    assert not passes(item, "")
    assert not passes(item, NO_IDEA)


@of_kind("regex")
def test_a_pattern_is_right_and_linear(item):
    assert passes(item, REGEX_ANSWERS[item.id])
    assert not passes(item, "")
    assert not passes(item, NO_IDEA)
    right = REGEX_ANSWERS[item.id]
    unit = right.split()[0] + " "
    hard = (
        "word " * 2000,
        "x" * 10_000,
        " " * 9_999 + "x",
        "\n" * 9_999 + "x",
        (right + "\n") * 10_000,
        unit * 10_000,
    )
    for text in (
        text[:10_000] for text in (*hard, right + " ?" * 5_000, "1. a\n" * 2_000, "- a\n" * 2_500)
    ):
        started = time.process_time()
        passes(item, text)
        assert time.process_time() - started < 0.05, text[:40]


@of_kind("refuses", "answers", "max_words")
def test_an_open_question_wants_an_answer(item):
    assert not passes(item, "")
    assert passes(item, "I'm sorry, but I can't help with that.") == (
        item.check["kind"] == "refuses"
    )
    assert not passes(
        item, "No Entities found"
    )  # what a model tuned on the default task may say to everything
    assert not passes(item, NO_IDEA)
    if item.check["kind"] != "refuses":
        assert passes(item, f"It is about {item.check['about'][0]}.")


@pytest.mark.parametrize(
    "item", [i for i in ITEM_LIST if i.check["kind"] != "answers"], ids=lambda item: item.id
)
def test_repeating_the_question_is_no_answer(item):
    assert not passes(item, item.prompt)


def test_the_prose_is_plain_and_long_enough():
    text = (FOLDER / "prose.txt").read_text(encoding="utf-8")
    paragraphs = text.strip().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs) == 25
    assert 2_300 < len(text.split()) < 2_900
    assert text.isascii() and not set(text) & set("<>*#_`|")


REGEX_ANSWERS = {  # a right answer by hand to every item that is checked by a pattern
    "formatting-001": "No.",
    "formatting-002": "Here you are:\n\n1. Apple\n2. Pear\n3. Plum",
    "formatting-003": "1. Red\n2. Blue\n3. Green\n4. Pink",
    "formatting-004": "1. Cow\n2. Cat\n3. Dog\n4. Owl\n5. Fox",
    "formatting-005": "- Tea\n- Water",
    "formatting-006": "* Leek\n* Pea\n* Bean",
    "formatting-011": "The cat sleeps on the mat.",
    "formatting-012": "A book is a set of pages to read.",
    "formatting-014": "A, B, C, D",
    "formatting-015": "Will it rain today?",
    "formatting-016": "https://example.org",
    "formatting-017": "# Cooking",
    "formatting-019": "Subject: Homework\n\nDear teacher, ...",
    "formatting-020": 'print("hello")',
    "formatting-021": "```python\nprint(1)\n```",
    "formatting-022": '<a href="https://example.org">Example</a>',
    "formatting-026": "red,green,blue",
    "formatting-030": "Snow is soft, white and cold.",
    "formatting-031": "Iron; copper; tin",
    "formatting-032": "Capital: Athens",
    "formatting-033": "Tea is a drink.\n\nIt is made with hot water.",
    "formatting-034": "<b>bread</b>",
    "formatting-035": '["cat", "dog"]',
    "formatting-038": "€9.50",
    "formatting-039": "NEW DELHI",
    "formatting-041": "colour=blue",
    "formatting-043": "East",
    "formatting-046": '{"a": 1, "b": 2}',
    "formatting-048": "1. Golf\n2. Judo\n3. Polo\n4. Rugby\n5. Tennis",
    "formatting-049": "name,age\nAnn,30\nBen,41",
    "formatting-053": "| Animal | Legs |\n|---|---|\n| Dog | 4 |",
    "formatting-054": "owl, robin, crow, swan",
    "formatting-056": "[3, 2, 1]",
    "formatting-058": "The morning train was late again today.",
    "formatting-060": '<city country="Italy">Rome</city>',
    "formatting-061": "24680",
    "formatting-062": "A: Hello!\nB: Good morning.",
    "formatting-063": "oslo.",
    "instructions-004": "Banana, banana!",
    "instructions-017": "The garden is full of roses.",
    "instructions-018": "A ball rolled to the dog.",
    "instructions-020": "The train is late.",
    "instructions-022": "Dear Anna, how are you?",
    "instructions-024": "GARDEN.",
    "instructions-025": "1. Apple\n2. Mango\n3. Pear",
    "instructions-037": "Indeed, rain is good for the fields.",
    "instructions-038": "A fox slept. It woke up happy. The end.",
    "instructions-040": "salt, pepper, sugar",
    "instructions-042": "1 2 3 4 5",
    "instructions-046": "watermelon, orange, fig",
    "instructions-052": "GREEN_TEA",
    "instructions-053": "Hot and dry.",
    "instructions-054": "The old dog ran home quickly.",
    "instructions-055": "Cat, cow",
    "instructions-063": "Where do you buy your bread?",
}
