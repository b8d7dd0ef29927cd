import pytest

from stages.core.statistics.bounds import Spread
from stages.evaluate.analysis.arms import Field, Rule
from stages.evaluate.analysis.verdict import decide

FREE = ("constant", "nearest")
PROMPTED = ("few_shot", "retrieval")
TUNED = ("tuned",)


def field(values, *, error=0.005, tuned=TUNED, **settings):
    """Arms with these values, every difference known as well as `error`."""
    alone = {arm: Spread(value, value, error, 300) for arm, value in values.items()}
    spreads = {
        (a, b): Spread(values[a] - values[b], values[a] - values[b], error, 300)
        for a in values
        for b in values
        if a != b
    }
    return Field(FREE, PROMPTED, tuned, alone, spreads, **settings)


def arms(constant, nearest, few_shot, retrieval, tuned, **rivals):
    return dict(
        constant=constant,
        nearest=nearest,
        few_shot=few_shot,
        retrieval=retrieval,
        tuned=tuned,
        **rivals,
    )


RULE = Rule(margin=0.02, confidence=0.95)


@pytest.mark.parametrize(
    ("values", "verdict", "arm"),
    [
        (arms(0.3, 0.4, 0.5, 0.45, 0.7), "fine-tune", "tuned"),
        (arms(0.3, 0.4, 0.7, 0.45, 0.7), "prompt", "few_shot"),
        (arms(0.3, 0.9, 0.5, 0.45, 0.7), "no-model", "nearest"),
        (arms(0.6, 0.4, 0.55, 0.45, 0.6), "neither", None),
        (
            arms(0.01, 0.0, 0.0, 0.01, 0.0),
            "neither",
            None,
        ),  # everything fails: nothing is recommended
        (arms(0.3, 0.4, 0.5, 0.45, 0.525), "not-enough-evidence", "few_shot"),  # about the margin
        (arms(0.3, 0.4, 0.3, 0.2, 0.425), "not-enough-evidence", "nearest"),
        (
            arms(0.58, 0.4, 0.5, 0.45, 0.605),
            "not-enough-evidence",
            None,
        ),  # nothing has shown its worth
        (arms(0.5, 0.4, 0.52, 0.45, 0.7), "fine-tune", "tuned"),
    ],
)
def test_the_rule(values, verdict, arm):
    found = decide(field(values), RULE, 300)
    assert (found.verdict, found.recommended_arm) == (verdict, arm), found.because


def test_a_wide_interval_decides_nothing():
    assert (
        decide(field(arms(0.3, 0.4, 0.5, 0.45, 0.7), error=0.15), RULE, 300).verdict
        == "not-enough-evidence"
    )
    assert (
        decide(field(arms(0.0, 0.0, 0.0, 0.0, 0.0), error=0.05), RULE, 8).verdict
        == "not-enough-evidence"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            arms(0.3, 0.4, 0.5, 0.45, 0.525),
            "These rows do not show whether tuned is better than few_shot by 0.020.",
        ),
        (
            arms(0.3, 0.9, 0.915, 0.45, 0.7),
            "tuned is not better than nearest, few_shot by 0.020. These rows do not show which arm is the best",
        ),
        (
            arms(0.3, 0.7, 0.3, 0.72, 0.72),
            "tuned is not better than retrieval by 0.020. These rows do not show whether it is better than nearest",
        ),
    ],
)
def test_what_is_open_is_told_from_what_is_not(values, said):
    assert said in decide(field(values), RULE, 300).because


def test_few_rows_decide_nothing_and_say_so():
    found = decide(field(arms(0.3, 0.4, 0.5, 0.45, 0.9)), Rule(0.02, 0.95, min_rows=50), 49)
    assert (found.verdict, found.recommended_arm) == ("not-enough-evidence", None)
    assert "49 rows" in found.because and "checks.min_test_rows" in found.because


def test_as_good_and_cheaper_is_worth_tuning():
    values = arms(0.3, 0.4, 0.7, 0.45, 0.7)
    cheap = field(values, cheaper={("tuned", "few_shot"): True})
    found = decide(cheap, RULE, 300)
    assert (found.verdict, found.recommended_arm) == (
        "fine-tune",
        "tuned",
    ) and "cheaper" in found.because
    worse = field(arms(0.3, 0.4, 0.75, 0.45, 0.7), cheaper={("tuned", "few_shot"): True})
    assert decide(worse, RULE, 300).verdict == "prompt"
    # Being cheaper than a prompt is no reason where a table without a model does as well.
    table = field(arms(0.3, 0.7, 0.7, 0.45, 0.7), cheaper={("tuned", "few_shot"): True})
    assert decide(table, RULE, 300).verdict == "no-model"


def test_an_arm_that_is_not_useful_is_not_recommended():
    values = arms(0.3, 0.4, 0.5, 0.45, 0.7)
    assert decide(field(values), Rule(0.02, 0.95, min_useful_value=0.9), 300).verdict == "neither"
    unsure = decide(field(values), Rule(0.02, 0.95, min_useful_value=0.695), 300)
    assert (unsure.verdict, unsure.recommended_arm) == ("not-enough-evidence", None)
    assert decide(field(values), Rule(0.02, 0.95, min_useful_value=0.6), 300).verdict == "fine-tune"


def test_each_look_at_the_rows_makes_it_harder_to_show_that_tuning_is_useful():
    values = field(arms(0.3, 0.4, 0.5, 0.45, 0.7))
    useful = 0.688  # 0.700 minus 2.4 standard errors
    assert decide(values, Rule(0.02, 0.95, useful), 300).verdict == "fine-tune"
    tenth = decide(values, Rule(0.02, 0.95, useful, looks=10), 300)
    assert tenth.verdict == "not-enough-evidence"
    # A prompt is not chosen among these models.
    prompt = field(arms(0.3, 0.4, 0.7, 0.45, 0.6))
    assert decide(prompt, Rule(0.02, 0.95, useful, looks=10), 300).verdict == "prompt"


def test_the_cheapest_tuned_arm_that_is_not_worse_is_recommended():
    values = arms(0.3, 0.4, 0.5, 0.45, 0.7, encoder=0.698, small=0.6)
    cost = {"tuned": 3.0, "encoder": 1.0, "small": 0.1}
    found = decide(field(values, tuned=("tuned", "encoder", "small"), cost=cost), RULE, 300)
    assert (found.verdict, found.recommended_arm) == ("fine-tune", "encoder")


def test_a_cheaper_tuned_arm_that_may_be_as_good_is_named():
    values = arms(0.3, 0.4, 0.5, 0.45, 0.7, encoder=0.688, small=0.6)
    cost = {"tuned": 3.0, "encoder": 1.0, "small": 0.1}
    found = decide(field(values, tuned=("tuned", "encoder", "small"), cost=cost), RULE, 300)
    assert (
        found.recommended_arm == "tuned"
        and "Requests to encoder cost 33% of those to tuned" in (found.alternative or "")
    )
    assert (
        "was not shown to be within 0.020 of it: the difference is -0.012, at least -0.020"
        in found.alternative
        and "small" not in found.alternative
    )


def test_every_look_at_the_rows_asks_for_more():
    values = arms(0.3, 0.4, 0.5, 0.45, 0.53)
    assert decide(field(values), RULE, 300).verdict == "fine-tune"
    assert decide(field(values), Rule(0.02, 0.95, looks=20), 300).verdict == "not-enough-evidence"
