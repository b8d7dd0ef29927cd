import math
from collections import Counter
from dataclasses import asdict

import pytest

from stages.core.inference.general import ask_general, draw_items, read_items, replaces_system
from stages.core.models.loading import get_model, get_tokenizer
from stages.evaluate.analysis.forgetting import REMEDY, compare_general
from stages.evaluate.analysis.sheets import warn_about_empty_answers

CONFIDENCE = 0.95
ITEMS = read_items()


TARGETS = ["[Bank - ORGANIZATION]", "[Ann - PERSON, Rome - LOCATION]", "No entities found"] * 4


@pytest.fixture
def compare(config):
    def compared(base, tuned, *overrides, task=()):
        return compare_general(base, tuned, CONFIDENCE, task, config(*overrides).train)

    return compared


def answers(share, nats):
    """Right answers to the first share of the arithmetic items, nonsense elsewhere; prose of two paragraphs."""
    numbers = [item for item in ITEMS if item.check["kind"] == "number"]
    right = {item.id: str(item.check["value"]) for item in numbers[: round(share * len(numbers))]}
    texts = {item.id: right.get(item.id, "nonsense") for item in ITEMS}
    return {"answers": texts, "prose": {"nats": nats, "tokens": [100, 100]}}


def test_what_was_forgotten_is_counted_by_category(compare):
    found = compare(answers(1, [300, 320]), answers(0.5, [400, 420]))
    by_name = {ability.category: ability for ability in found.abilities}
    arithmetic = by_name["arithmetic"]
    assert (arithmetic.base.value, arithmetic.items) == (
        1,
        64,
    ) and arithmetic.tuned.value == pytest.approx(0.5, abs=0.02)
    assert arithmetic.difference.ci_high < 0 and by_name["facts"].difference.value == 0
    assert by_name["all"].items == len(ITEMS) and next(iter(by_name)) == "all"
    assert found.base_perplexity == pytest.approx(
        math.exp(3.1)
    ) and found.perplexity_ratio.value == pytest.approx(math.e)
    assert "before (difference -0." in found.sentence


def test_equal_models_forgot_nothing(compare):
    found = compare(answers(1, [300, 320]), answers(1, [300, 320]))
    assert found.perplexity_ratio.value == 1
    assert all(ability.difference.value == 0 for ability in found.abilities)


def say(text, rest="nonsense"):
    """Every second item is answered by a text."""
    found = answers(0, [300, 320])
    return found | {"answers": {item.id: (text, rest)[i % 2] for i, item in enumerate(ITEMS)}}


def sheet(found, model, system="template"):
    [one] = [one for one in found.sheets if (one.model, one.system) == (model, system)]
    return one


@pytest.mark.parametrize(
    "text", ["[Hugging Face - PERSON]", "no entities found", "[A - PERSON, B - PERSON]"]
)
def test_the_tasks_answers_to_general_questions_are_counted_apart(compare, text):
    found = compare(answers(1, [300, 320]), say(text), task=TARGETS)
    tuned = sheet(found, "tuned")
    base = sheet(found, "base")
    assert (tuned.in_task_format, tuned.most_frequent, tuned.most_frequent_count) == (
        160,
        text,
        160,
    )
    assert tuned.right + tuned.in_task_format + tuned.wrong == tuned.items == 320
    assert base.in_task_format == 0 and base.right > 60
    said = f"most frequent answer to the suite is {text!r} (160 of 320 items)"
    assert (
        said in found.answers_sentence
        and "Of these answers, 160 have the form of the task's answers" in found.answers_sentence
    )


def test_what_the_base_model_says_as_well_is_no_form_of_the_task(compare):
    prose = ["The bank is in Rome.", "The end.", "Nonsense"]
    found = compare(say("The capital is Paris."), say("The capital is Rome."), task=prose)
    assert (
        sheet(found, "tuned").in_task_format == 0
        and "whatever it is asked" not in found.answers_sentence
    )
    found = compare(
        answers(0, [300, 320]), say("No entities found", rest="No entities found"), task=TARGETS
    )
    assert "whatever it is asked" in found.answers_sentence


def test_answers_below_an_empty_system_message_have_sheets_of_their_own(compare):
    base = answers(1, [300, 320])
    tuned = say("[A - PERSON]", rest="[B - PERSON]")
    drawn = [item.id for item in draw_items(ITEMS, seed=1)]
    base["answers_without_system"] = {name: base["answers"][name] for name in drawn}
    tuned["answers_without_system"] = dict.fromkeys(drawn, "No entities found")
    found = compare(base, tuned, task=TARGETS)
    assert sheet(found, "tuned", "empty").in_task_format == len(drawn) == 105
    assert "On 105 items, drawn with the seed" in found.answers_sentence
    assert "the score is 0.000 after tuning and 0." in found.answers_sentence
    assert "empty" not in compare(answers(1, [1, 1]), answers(1, [1, 1])).answers_sentence


def test_a_base_model_whose_thoughts_were_cut_is_warned_about(compare):
    def warn(base):
        found = compare(base, say("", rest="nonsense"))
        return warn_about_empty_answers([asdict(one) for one in found.sheets])

    assert "160 of the base model's 320 answers to the general suite have no text" in warn(say(""))
    assert warn(answers(1, [300, 320])) is None


def test_a_third_of_each_category_is_drawn_by_the_seed():
    drawn = draw_items(ITEMS, seed=1)
    assert drawn == draw_items(ITEMS, seed=1) != draw_items(ITEMS, seed=2)
    assert set(Counter(item.category for item in drawn).values()) == {21}


def test_the_loss_has_a_standard_error_and_two_halves(compare):
    base = answers(1, [300, 320])
    tuned = answers(1, [300, 320])
    arithmetic = [item.id for item in ITEMS if item.category == "arithmetic"]
    lost = arithmetic[:16] + arithmetic[16:32:4] + arithmetic[17:32:4]
    tuned["answers"] |= dict.fromkeys(lost, "nonsense")
    found = compare(base, tuned).reliability
    assert found.halves == (
        16 / 160,
        8 / 160,
    )  # of 160 items each: half of 16 in each, and 8 more in one
    share = 24 / 64  # of the one category in which anything was lost: the others do not vary
    assert found.standard_error == pytest.approx(64 / 320 * (share * (1 - share) / 63) ** 0.5)


def test_a_severe_loss_names_the_remedy_that_was_not_taken(compare):
    all_lost = (answers(1, [300, 320]), answers(0, [300, 320]))
    found = compare(*all_lost)
    assert found.remedy.startswith("The tuned model lost 0.2") and found.remedy_command == REMEDY
    for overrides in (["train.replay.fraction=0.1"], ["train=dpo"], ["train=pretrain"]):
        assert compare(*all_lost, *overrides).remedy is None
    assert (
        compare(answers(1, [300, 320]), answers(0.6, [300, 320])).remedy is None
    )  # 0.08 of the items


def test_the_suite_is_asked_with_an_empty_system_message_where_the_template_has_its_own(
    config, base
):
    from stages.core.inference.engine import TransformersEngine

    tokenizer = get_tokenizer(base)
    engine = TransformersEngine(get_model(base, "float32"), tokenizer, 16384)
    plain = ask_general(engine, tokenizer, config())
    assert set(plain) == {"answers", "prose", "seconds"}
    default = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nI am tiny.<|im_end|>\n{% endif %}"
    )
    own = tokenizer.chat_template
    tokenizer.chat_template = default + own
    assert len(ask_general(engine, tokenizer, config())["answers_without_system"]) == 105
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    for template in (refuses + own, "{{ 'Date: today' }}" + own):
        tokenizer.chat_template = template
        assert not replaces_system(tokenizer)


def test_the_prose_is_read_as_transformers_does(base):
    import torch

    from stages.core.inference.general import FOLDER, read_prose

    model = get_model(base, "float32")
    tokenizer = get_tokenizer(base)
    found = read_prose(model, tokenizer)
    first = (FOLDER / "prose.txt").read_text().split("\n\n")[0].strip()
    ids = torch.tensor([tokenizer(first, add_special_tokens=False)["input_ids"]])
    loss = float(model(ids, labels=ids).loss)
    assert found["nats"][0] / found["tokens"][0] == pytest.approx(loss, rel=1e-4)
