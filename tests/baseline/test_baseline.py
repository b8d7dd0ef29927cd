import json

from stages.baseline.__main__ import main
from stages.baseline.arms import choose
from stages.baseline.shots import get_shots
from stages.core.predictions import BASE_ARMS, Prediction, read_predictions
from stages.core.retrieval import Words
from tests.conftest import TINY, compose_config


def test_shots_come_from_the_training_split_alone_and_by_the_seed(prepared):
    train, test = prepared["train"], prepared["test"]
    for arm, count in (("zero_shot", 0), ("few_shot", 3), ("retrieval", 3)):
        shots = get_shots(arm, train, test, 3, 1, Words(train))
        assert len(shots) == len(test)
        assert all(len(row) == count and all(shot in train for shot in row) for row in shots)

    def drawn(seed):
        return get_shots("few_shot", train, test, 3, seed, Words(train))

    assert drawn(1) == drawn(1) != drawn(2)


def test_every_arm_answers_every_row(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=[2]"))
    for arm in BASE_ARMS:
        assert [p.id for p in read_predictions(arm)] == [record.id for record in prepared["test"]]
    numbers = json.loads((workspace / "metrics/baseline.json").read_text())
    assert numbers["zero_shot"]["prompt_tokens"] < numbers["few_shot"]["prompt_tokens"]


def test_each_arm_chooses_on_validation_rows(prepared, config):
    checked = config("prompt.shots=[1,3]", "prompt.variants=[Short]", "prompt.trial_rows=4")
    asked = []

    def asker(arm, records, instruction, k):
        asked.append((arm, instruction, k))
        good = k == 3 and instruction == "Short"
        return [Prediction(r.id, arm, r.target if good else "", 10 * k, 1, 0.1) for r in records]

    choice = choose(checked, asker, "few_shot", prepared["validation"])
    assert asked == [("few_shot", text, k) for text in (None, "Short") for k in (1, 3)]
    assert (choice.instruction, choice.shots, choice.rows) == ("Short", 3, 4) and len(choice.trials) == 4
    assert choose(checked, asker, "zero_shot", prepared["validation"]).shots == 0


def test_of_equal_ways_the_shortest_wins_and_one_way_needs_no_trial(prepared, config):
    def asker(arm, records, instruction, k):
        return [Prediction(record.id, arm, record.target, 10 * k, 1, 0.1) for record in records]

    assert choose(config("prompt.shots=[3,1]"), asker, "few_shot", prepared["validation"]).shots == 1
    assert choose(config("prompt.shots=[3]"), None, "few_shot", prepared["validation"]).trials == []


def test_shots_that_do_not_fit_are_left_out(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=[5]", "model.max_length=200"))
    assert all(p.prompt_tokens <= 192 for arm in BASE_ARMS for p in read_predictions(arm))
