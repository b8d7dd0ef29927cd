import pytest

from stages.baseline.model_free import answer_without_model, get_constant, get_dictionary
from stages.baseline.retrieval import BM25Index
from stages.core.config.arms import BASE_ARMS
from stages.core.data.predictions import read_arms, read_predictions, write_predictions
from tests.conftest import chat

LOANS = [
    chat("Silicon Valley Bank in California", "[Silicon Valley Bank - ORGANIZATION, California - LOCATION]"),
    chat("Between California and the Borrower.", "[California - LOCATION, Borrower - PERSON]"),
    chat("The Borrower pays.", "[Borrower - PERSON]"),
    chat("Silicon Valley Bank lends.", "[Silicon Valley Bank - ORGANIZATION]"),
    chat("It is due.", "No entities found"),
    chat("It is late.", "No entities found"),
]  # fmt: skip


def test_the_constant_is_the_most_frequent_target():
    assert get_constant(LOANS) == "No entities found"
    assert (
        get_constant([chat("a", "z"), chat("b", "y")]) == "y"
    )  # of equals the first, whatever the order


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "Silicon Valley BANK lends to the borrower.",
            "[Silicon Valley BANK - ORGANIZATION, borrower - PERSON]",
        ),
        ("Nobody is named.", "No entities found"),
        ("It ends with Silicon Valley", "No entities found"),  # half of a name is none
        ("", "No entities found"),
    ],
)
def test_entities_are_looked_up(question, answer):
    assert get_dictionary(LOANS).answer(question) == answer


def test_whole_targets_are_looked_up_the_longest_first():
    rows = [
        chat("fly to New York City", "New York City"),
        chat("from York to Bath", "York"),
        chat("to York", "York"),
    ]
    dictionary = get_dictionary(rows)
    assert dictionary.coverage == 1
    assert dictionary.answer("Is NEW YORK CITY far from York?") == "New York City"
    assert dictionary.answer("Where to?") == "York"


@pytest.mark.parametrize("script", ["กรุงเทพ เชียงใหม่", "हैदराबाद दिल्ली", "東京 大阪", "لاہور کراچی"])
def test_lookup_reads_every_script(script):
    rows = [chat(f"{place} ?", place) for place in script.split()]
    assert get_dictionary(rows).answer(f"… {script.split()[0]} …") == script.split()[0]


def test_arms_without_a_model_are_written_and_read(prepared):
    numbers = answer_without_model(
        BM25Index(prepared["train"]), prepared["train"], prepared["test"]
    )
    assert set(numbers) == {"constant", "nearest"}
    constant = read_predictions("constant")
    assert [answer.id for answer in constant] == [record.id for record in prepared["test"]]
    assert len({answer.text for answer in constant}) == 1 and constant[0].prompt_tokens == 0


def test_lookup_is_no_arm_where_targets_are_no_parts_of_questions(workspace, config):
    rows = [chat(f"How is review {n}?", "good" if n % 3 else "bad") for n in range(12)]
    assert set(answer_without_model(BM25Index(rows), rows, rows[:4])) == {"constant", "nearest"}
    assert read_predictions("lookup") == []
    for arm in BASE_ARMS:
        write_predictions(arm, [])
    assert list(read_arms(config())) == ["constant", "nearest"]
