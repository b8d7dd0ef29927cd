from stages.core.data.predictions import Prediction
from stages.core.metrics.metrics import Metrics
from stages.evaluate.analysis.health import find_warnings, get_health, split_gain
from tests.conftest import chat
from tests.core.statistics.test_bounds import binary

METRICS = Metrics(["accuracy"], {})
RECORDS = [chat(f"question {n}", "yes" if n % 2 else "no") for n in range(10)]


def answered(*texts, cut=None):
    pairs = zip(RECORDS, texts, strict=True)
    return [Prediction(record.id, "few_shot", text, 1, 1, 0.1, cut=cut) for record, text in pairs]


def test_one_answer_empty_ones_and_malformed_ones_are_counted():
    health = get_health(
        "accuracy", METRICS, RECORDS, answered(*["yes"] * 7, "", "It is no.", "no"), ["no", "yes"]
    )
    assert (health.commonest, health.commonest_share, health.empty) == ("yes", 0.7, 0.1) and round(
        health.malformed, 3
    ) == 0.2
    assert health.content == 0.4  # three as they are, and "It is no." names one label
    assert (
        health.cut is None
        and get_health(
            "accuracy", METRICS, RECORDS, answered(*["no"] * 10, cut=True), ["no", "yes"]
        ).cut
        == 1
    )


def test_a_gain_is_split_by_the_form_of_the_other_arm():
    # The other arm is wrong on four rows: two of its answers had no form, two had one and were wrong.
    ours = binary(*[1] * 10)
    theirs = binary(*[0] * 4, *[1] * 6)
    gain = split_gain("few_shot", [False, False, *[True] * 8], ours, theirs)
    assert (round(gain.format, 3), round(gain.content, 3)) == (0.2, 0.2)


def test_an_arm_that_gives_one_answer_is_named():
    def arm(value, share):
        health = {"commonest": "No entities\nfound", "commonest_share": share}
        return {"exact_match": {"value": value}, "health": health}

    arms = {
        "constant": arm(0.58, 1.0),
        "few_shot": arm(0.55, 0.97),
        "zero_shot": arm(0.6, 0.1),
    }
    report = {
        "primary_metric": "exact_match",
        "rows": 1000,
        "forgetting": {"sheets": [{"empty": 17, "items": 320}, {"empty": 2, "items": 320}]},
        "truncation": {"arms": {"zero_shot": {"cut": 300, "may_be_right": 2}}},
    }
    arms_alike = arms | {"retrieval": arm(0.58, 1.0), "tuned": arm(0.58, 1.0)}
    warnings = find_warnings(report | {"arms": arms})
    assert [warning.split()[0] for warning in warnings[:2]] == ["few_shot", "few_shot"]
    assert warnings[2] == (
        "prompt.max_new_tokens cut these of the 1,000 answers of an arm: 300 of zero_shot (2 of them "
        "could still have become right)."
    )
    assert warnings[3].startswith("17 of the base model's 320 answers to the general suite")
    assert (
        "“No entities found”, to 97% of the rows" in warnings[0]
        and "no better in exact_match" in warnings[1]
    )
    alike = find_warnings(report | {"arms": arms_alike, "forgetting": None})
    assert len(alike) == 3 and alike[0].startswith(
        "few_shot, retrieval and tuned give the same answer"
    )
    assert "to at least 97% of the rows" in alike[0] and alike[1].startswith(
        "few_shot, retrieval and tuned are no better"
    )
