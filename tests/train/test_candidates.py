"""Several seeds, and rivals: each a whole model of its own, trained one after the other and never twice."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.core.models.candidates import get_candidate, get_recommended, tuned_candidates
from stages.core.models.loading import TUNED
from stages.train.__main__ import main
from tests.conftest import TINY, compose_config
from tests.train.monitoring.test_resume import Killed, stop_at

FAST = (
    *TINY,
    "train.args.num_train_epochs=1",
    "train.args.learning_rate=1e-2",
    "tracking=disabled",
)
RIVAL = (
    "+train@rivals.whole=full",
    "+train/launcher@rivals.whole.launcher=single",
    "rivals.whole.args.num_train_epochs=1",
    "rivals.whole.args.learning_rate=1e-2",
)
SEEDS = TUNED / "seeds"


def weights(folder):
    return load_file(next(folder.glob("*.safetensors")))


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def times():
    return {path: path.stat().st_mtime_ns for path in Path("models").rglob("training.json")}


def test_seeds_differ_in_training_alone_and_each_is_a_whole_result(prepared):
    main(compose_config(*FAST, "train.seeds=[42,43]"))
    assert [path.name for path in SEEDS.iterdir()] == ["43"]  # 42 is the global one, and the first
    first, second = (
        json.loads((folder / "training.json").read_text()) for folder in (TUNED, SEEDS / "43")
    )
    assert (first["seed"], second["seed"]) == (42, 43) and first["base_model"] == second[
        "base_model"
    ]
    assert not same(weights(TUNED), weights(SEEDS / "43"))
    metrics = json.loads(Path("metrics/train.json").read_text())
    taken = json.loads(Path("models/measured/tuned/43.json").read_text())["numbers"]
    assert (
        metrics["seeds"]["43"] == second["numbers"] | taken
        and metrics["steps"] == first["numbers"]["steps"]
    )
    assert metrics["tokens"] == second["numbers"]["tokens"]  # of the same rows


def test_dropout_and_new_weights_are_those_of_the_seed_whoever_is_first(prepared):
    main(compose_config(*FAST, "train.seeds=[43]"))
    second = weights(SEEDS / "43")
    shutil.rmtree("models")  # else it would not be trained again
    main(compose_config(*FAST, "train.seeds=[44,43]"))
    assert same(second, weights(SEEDS / "43"))
    main(
        compose_config(
            *FAST,
            "train.adapter.lora_dropout=0.5",
            "train.seeds=[44]",
            "train.args.learning_rate=0",
        )
    )
    assert not same(
        weights(TUNED), weights(SEEDS / "44")
    )  # nothing was learned: the adapters were drawn otherwise


def test_what_is_done_is_not_done_again_and_what_is_unwanted_goes(prepared):
    main(compose_config(*FAST, "train.seeds=[43]"))
    before = times()
    main(compose_config(*FAST, "train.seeds=[44,43]"))
    assert {path: time for path, time in times().items() if path in before} == before
    assert {path.name for path in SEEDS.iterdir()} == {"43", "44"}
    main(compose_config(*FAST))
    assert not list(SEEDS.iterdir()) and "seeds" not in json.loads(
        Path("metrics/train.json").read_text()
    )
    assert times() == {TUNED / "training.json": before[TUNED / "training.json"]}


def test_a_run_that_is_killed_in_a_later_seed_goes_on_there(prepared, monkeypatch):
    often = (
        "train.checkpoint_minutes=0",
        "train.args.logging_steps=1",
        "train.args.per_device_train_batch_size=4",
    )
    main(compose_config(*FAST, *often))
    before = times()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 3)
        main(compose_config(*FAST, *often, "train.seeds=[43]"))
    assert times() == before
    main(compose_config(*FAST, *often, "train.seeds=[43]"))
    assert json.loads(Path("models/measured/tuned/43.json").read_text())["resumed_at_steps"] == [3]
    assert {path: time for path, time in times().items() if path in before} == before


def test_a_rival_is_trained_into_its_own_folder(prepared):
    main(compose_config(*FAST, *RIVAL, "candidate=whole", "rivals.whole.seeds=[43]"))
    assert not TUNED.exists() and not Path("metrics/train.json").exists()
    folder = Path("models/rivals/whole")
    assert (folder / "model.safetensors").exists() and (
        folder / "seeds/43/model.safetensors"
    ).exists()
    assert json.loads(Path("metrics/rivals/whole.json").read_text())["seeds"]["43"]["steps"] == 2
    assert json.loads(Path("plots/rivals/whole.json").read_text())


def test_a_rival_is_what_train_would_make_of_its_section(prepared):
    main(compose_config(*FAST, *RIVAL, "candidate=whole"))
    main(compose_config(*FAST, "train=full"))
    assert same(weights(Path("models/rivals/whole")), weights(TUNED))


def test_candidates_know_their_folders_and_files(config):
    checked = config(*RIVAL, "train.seeds=[42,43]")
    tuned, whole = tuned_candidates(checked)
    assert (tuned.seeds, whole.seeds) == ((42, 43), (42,))
    assert [str(tuned.get_folder(seed)) for seed in tuned.seeds] == [
        "models/tuned",
        "models/tuned/seeds/43",
    ]
    files = [str(c.get_predictions_file(seed)) for c in (tuned, whole) for seed in c.seeds]
    assert files == [
        "predictions/tuned.jsonl",
        "predictions/seeds/tuned/43.jsonl",
        "predictions/rivals/whole.jsonl",
    ]
    assert get_candidate(checked, "whole").config.train.adapter is None and whole.run is checked
    assert [get_recommended(checked, arm).name for arm in ("whole", "tuned", "few_shot")] == [
        "whole",
        "tuned",
        "tuned",
    ]
