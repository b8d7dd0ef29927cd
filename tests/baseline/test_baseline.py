import json

from stages.baseline.__main__ import main
from stages.baseline.shots import get_shots
from stages.core.predictions import BASE_ARMS, read_predictions
from tests.conftest import TINY, compose_config


def test_shots_come_from_the_training_split_alone_and_by_the_seed(prepared):
    train, test = prepared["train"], prepared["test"]
    for arm, count in (("zero_shot", 0), ("few_shot", 3), ("retrieval", 3)):
        shots = get_shots(arm, train, test, 3, seed=1)
        assert len(shots) == len(test)
        assert all(len(row) == count and all(shot in train for shot in row) for row in shots)
    assert get_shots("few_shot", train, test, 3, seed=1) == get_shots("few_shot", train, test, 3, seed=1)
    assert get_shots("few_shot", train, test, 3, seed=1) != get_shots("few_shot", train, test, 3, seed=2)


def test_every_arm_answers_every_row(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=2"))
    for arm in BASE_ARMS:
        assert [p.id for p in read_predictions(arm)] == [record.id for record in prepared["test"]]
    numbers = json.loads((workspace / "metrics/baseline.json").read_text())
    assert numbers["zero_shot"]["prompt_tokens"] < numbers["few_shot"]["prompt_tokens"]


def test_shots_that_do_not_fit_are_left_out(prepared, workspace):
    main(compose_config(*TINY, "prompt.shots=5", "model.max_length=200"))
    assert all(p.prompt_tokens <= 192 for arm in BASE_ARMS for p in read_predictions(arm))
