import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.core.data.looks import LEDGER
from stages.core.environment.lineage import data_sha256
from stages.core.errors import UserError
from stages.core.models.loading import weights_sha256
from stages.core.statistics.bounds import correct_for_looks
from stages.core.tracking.tracker import track
from stages.evaluate.analysis.looks import count_looks


@pytest.fixture
def look(config, prepared):
    """Judge one model, or several together, in a stage of its own."""

    def judge(*models, overrides=()):
        with track(config(*overrides), "evaluate") as tracker:
            return count_looks(config(*overrides), tracker, dict.fromkeys(models, 0.5))

    return judge


OFF = ("tracking=disabled",)


def ledger(root=Path()):
    return sorted((root / LEDGER).glob("*/*.json"))


def test_a_sweep_of_twenty_counts_as_twenty(look):
    found = [look(f"model{n}", overrides=OFF) for n in range(20)]
    assert (
        [looks.place for looks in found] == [looks.count for looks in found] == list(range(1, 21))
    )
    assert (
        found[0].sentence == "This is the first model judged on these test rows."
        and found[0].confidence == 0.95
    )
    assert (
        "This is the 20th model judged on these test rows, so a claim that tuning is better needs "
        "a confidence of 0.9975 instead of 0.95" in found[19].sentence
    )


def test_the_same_weights_are_counted_once_and_keep_their_place(look):
    first = look("a", overrides=OFF)
    look("b", overrides=OFF)
    before = {path: path.read_bytes() for path in ledger()}
    again = look("a", overrides=OFF)
    assert (first.place, again.place, again.count) == (1, 1, 2)
    assert (
        again.confidence == first.confidence
        and "2 models have been judged so far" in again.sentence
    )
    assert {path: path.read_bytes() for path in ledger()} == before


def test_another_metric_and_other_rows_are_other_looks(look, prepared):
    look("a", overrides=OFF)
    other = (*OFF, "evaluate=entities", "evaluate.primary_metric=entity_f1")
    assert look("a", overrides=other).place == 2
    Path("data/prepared/test.jsonl").write_bytes(Path("data/prepared/train.jsonl").read_bytes())
    assert look("b", overrides=OFF).place == 1


def test_models_that_are_judged_together_share_the_last_place(look):
    look("a", overrides=OFF)
    found = look("b", "c", "d", overrides=OFF)
    assert (found.place, found.count) == (4, 4) and found.confidence == correct_for_looks(
        0.95, 4
    ) == 1 - 0.05 / 4


def test_an_entry_says_what_was_judged_and_not_when(look, config):
    look("a", overrides=OFF)
    (path,) = ledger()
    digest = data_sha256()["test"]
    assert path == LEDGER / digest[:12] / "001-exact_match-a.json"
    entry = json.loads(path.read_text())
    assert entry.pop("git_commit")
    assert entry == {
        "place": 1,
        "test_sha256": digest,
        "model_sha256": "a",
        "metric": "exact_match",
        "value": 0.5,
        "data": "chat-jsonl",
    }


def test_a_copy_of_the_repository_counts_in_the_original(
    look, workspace, tmp_path_factory, monkeypatch
):
    copy = tmp_path_factory.mktemp("copy")
    (workspace / "data").rename(copy / "data")
    monkeypatch.chdir(copy)  # as queued experiments run; DVC_ROOT still names the original
    assert [look(model, overrides=OFF).place for model in "ab"] == [1, 2]
    assert len(ledger(workspace)) == 2 and not ledger(copy)


def test_looks_at_the_same_time_get_places_of_their_own(config, prepared):
    settings = config(*OFF)

    def judge(model):
        with track(settings, "evaluate") as tracker:
            return count_looks(settings, tracker, {model: 0.5}).place

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(judge, "abcdefgh")) == list(range(1, 9))


def test_mlflow_carries_the_look_and_gives_back_what_the_ledger_lost(look, workspace):
    from mlflow import MlflowClient

    for model in "ab":
        look(model)
    kept = {path: path.read_bytes() for path in ledger()}
    for path in kept:
        path.unlink()
    found = look("c")
    assert (found.place, found.count) == (3, 3)
    assert {path: path.read_bytes() for path in ledger()}.items() > kept.items()
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("tuneproof").experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.data.tags["tuneproof.test_sha256"] for run in parents] == [data_sha256()["test"]]


def test_a_tag_of_another_version_and_a_server_that_is_away_do_no_harm(look, monkeypatch, config):
    with track(config(), "evaluate") as tracker:
        tracker.set_tag("test_sha256", data_sha256()["test"])
        tracker.set_tag("looks", '[{"when": "long ago"}]')
    assert look("a").place == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert look("b", overrides=["tracking.timeout=1"]).place == 2


def test_branches_that_were_merged_count_all_their_looks(look):
    for model in "abc":
        look(model, overrides=OFF)
    third = next(path for path in ledger() if path.name.startswith("003"))
    entry = json.loads(third.read_text())
    (third.parent / "003-exact_match-d.json").write_text(json.dumps(entry | {"model_sha256": "d"}))
    (third.parent / "004-exact_match-a.json").write_text(
        json.dumps(entry | {"model_sha256": "a", "place": 4})
    )
    assert look("a", overrides=OFF).place == 1
    assert (look("e", overrides=OFF).place, look("e", overrides=OFF).count) == (5, 5)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluate.split=validation", "optimistic"),
        ("train.train_fraction=0.5", "trained on 50% of the"),
    ],
)
def test_what_is_no_look_is_not_counted(look, override, said):
    found = look("a", overrides=[*OFF, override])
    assert (found.place, found.count, found.confidence) == (
        None,
        None,
        0.95,
    ) and said in found.sentence
    assert not ledger()


def test_a_file_that_is_no_look_is_named_with_what_to_do(config, prepared):
    path = LEDGER / data_sha256()["test"][:12] / "001-exact_match-a.json"
    path.parent.mkdir(parents=True)
    path.write_text("<<<<<<< HEAD")
    settings = config(*OFF)
    with (
        track(settings, "prepare") as tracker,
        pytest.raises(UserError, match=f"{path} is not a valid look.*git checkout"),
    ):
        count_looks(settings, tracker, {"a": 0.5})


def test_a_ledger_that_cannot_be_written_is_a_users_mistake(look):
    LEDGER.write_text("a file in the place of the folder")
    with pytest.raises(
        UserError, match=r"data/test_looks/\w+ cannot be written .*evaluate.split=validation"
    ):
        look("a", overrides=OFF)


def test_weights_in_several_files_are_all_looked_at(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.safetensors").write_text(name)
    both = weights_sha256(tmp_path)
    (tmp_path / "b.safetensors").write_text("c")
    other = weights_sha256(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    assert len({both, other, weights_sha256(tmp_path)}) == 3
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        weights_sha256(tmp_path)
