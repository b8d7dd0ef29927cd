"""The runs of a killed process do not run for ever."""

import os

import pytest
from mlflow import MlflowClient

from stages.core.storage import leftovers
from stages.core.tracking.open_runs import NOTES
from stages.core.tracking.runs import tracking_uri
from stages.core.tracking.tracker import Tracker, track


@pytest.fixture
def statuses(workspace, config):
    """Return the status of each run, by its name; stages are children of the execution."""

    def find():
        client = MlflowClient(tracking_uri(config().tracking))
        experiment = client.get_experiment_by_name("tuneproof").experiment_id
        return sorted(
            (run.info.run_name, run.info.status) for run in client.search_runs([experiment])
        )

    return find


def be_killed(config, monkeypatch):
    """Leave open runs as another process that has ended."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 99_999_999)
        Tracker(config(), "train")


def test_the_next_stage_ends_the_runs_of_a_killed_one(config, statuses, monkeypatch):
    be_killed(config, monkeypatch)
    assert ("train", "RUNNING") in statuses()
    with track(config(), "evaluate"):
        pass
    found = statuses()
    assert ("train", "KILLED") in found and ("evaluate", "FINISHED") in found
    assert not [status for _, status in found if status == "RUNNING"]
    assert not list(NOTES.iterdir())


def test_the_runs_of_a_living_process_stay_open(config, statuses, monkeypatch):
    monkeypatch.setattr(leftovers, "_is_alive", lambda *_: True)
    be_killed(config, monkeypatch)
    with track(config(), "evaluate"):
        pass
    assert ("train", "RUNNING") in statuses()


def test_runs_of_another_server_are_left_to_its_next_user(config, statuses, monkeypatch):
    be_killed(config, monkeypatch)
    (note,) = NOTES.iterdir()
    note.write_text(note.read_text().replace("sqlite", "elsewhere"))
    with track(config(), "evaluate"):
        pass
    assert ("train", "RUNNING") in statuses() and note.exists()


def test_a_note_that_is_cut_off_is_removed(config, statuses, monkeypatch):
    be_killed(config, monkeypatch)
    (note,) = NOTES.iterdir()
    note.write_text("")
    with track(config(), "evaluate"):
        pass
    assert not list(NOTES.iterdir())
