import json
import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from stages.core.environment.lineage import data_sha256
from stages.core.errors import UserError
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import complete, track


@pytest.fixture
def client(workspace):
    from mlflow import MlflowClient

    return lambda: MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")


def runs(client):
    experiment = client.get_experiment_by_name("tuneproof").experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment])}


def summarize(tracker, values):
    """As every stage does at its end."""
    write_summary(tracker.stage, values)
    tracker.log_summary(values)


def parent(client):
    return next(run for run in runs(client).values() if "mlflow.parentRunId" not in run.data.tags)


def history(client, run, key):
    """The steps and values of a number. Two equal points of one millisecond are one to MLflow."""
    return {(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)}


def test_stages_of_one_execution_meet_in_one_parent(config, prepared, client):
    with track(config(), "prepare") as tracker:
        summarize(tracker, {"rows": 40, "note": "text is left out"})
    with track(config(), "train") as tracker:
        tracker.log({"loss": 0.5}, step=3)
        summarize(tracker, {"train_loss": 0.25, "loss": 0.4, "decisive": {"primary": {"tuned": 1}}})
    store = client()
    found = runs(store)
    assert len(found) == 3
    assert found["train"].data.tags["mlflow.parentRunId"] == parent(store).info.run_id
    metrics = parent(store).data.metrics
    assert metrics == {"primary.tuned": 1}, "few enough for the UI to show them"
    files = {file.path for file in store.list_artifacts(parent(store).info.run_id, "metrics")}
    assert files == {"metrics/prepare.json", "metrics/train.json"}
    assert found["train"].data.metrics.keys() >= {"train_loss", "loss"}
    assert parent(store).data.params["train.adapter.r"] == "16"
    assert history(store, found["train"], "loss") == {(3, 0.5), (3, 0.4)}
    assert history(store, found["train"], "train_loss") == {(0, 0.25)}
    assert {i.dataset.digest for i in parent(store).inputs.dataset_inputs} == {
        sha256[:32] for sha256 in data_sha256().values()
    }


def test_another_configuration_is_another_execution(config, prepared, client):
    for override in ("seed=1", "seed=2"):
        with track(config(override), "prepare") as tracker:
            summarize(tracker, {"rows": 1})
    assert (
        len([run for run in runs(client()).values() if "mlflow.parentRunId" not in run.data.tags])
        == 2
    )


def test_a_failed_stage_is_a_failed_run(config, workspace, client):
    with pytest.raises(UserError), track(config(), "prepare"):
        raise UserError("no")
    assert runs(client())["prepare"].info.status == "FAILED"
    assert parent(client()).info.status == "FAILED"


def test_what_came_from_the_cache_is_completed_afterwards(config, prepared, client):
    with track(config(), "prepare") as tracker:
        summarize(tracker, {"rows": 40})
    Path("metrics/evaluate.json").write_text(
        '{"gain": 0.2, "decisive": {"primary_difference": 0.2}}'
    )
    complete(config())
    assert parent(client()).data.metrics == {"primary_difference": 0.2}


def test_a_server_that_is_away_is_a_warning_and_no_password_is_shown(
    config, prepared, caplog, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    started = time.monotonic()
    with (
        caplog.at_level(logging.WARNING),
        track(config("tracking.timeout=1"), "prepare") as tracker,
    ):
        tracker.log({"loss": 1}, step=1)
        summarize(tracker, {"rows": 40})
    assert time.monotonic() - started < 100  # by itself MLflow tries for minutes
    assert "does not answer" in caplog.text and "secret" not in caplog.text
    assert caplog.text.count("does not answer") == 1
    assert json.loads(Path("metrics/prepare.json").read_text()) == {"rows": 40}


def test_a_server_that_never_answers_does_not_hold_the_stage(config, prepared, caplog, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with (
            caplog.at_level(logging.WARNING),
            track(config("tracking.timeout=1"), "prepare") as tracker,
        ):
            summarize(tracker, {"rows": 40})
        assert time.monotonic() - started < 100
    assert "does not answer" in caplog.text
    assert Path("metrics/prepare.json").exists()


def test_tracking_can_be_off(config, prepared, workspace):
    with track(config("tracking=disabled"), "prepare") as tracker:
        summarize(tracker, {"rows": 40})
    assert not (workspace / "mlflow.db").exists()
    assert (workspace / "metrics/prepare.json").exists()


def test_more_parameters_than_mlflow_takes_in_one_call(config, prepared, client):
    many = [f"+train.args.a{i}={i}" for i in range(150)] + [f"prompt.system_prompt={'x' * 7000}"]
    with track(config(*many), "prepare") as tracker:
        summarize(tracker, {"rows": 1})
    params = parent(client()).data.params
    assert params["train.args.a149"] == "149" and len(params["prompt.system_prompt"]) == 6000


def test_system_metrics_of_a_stage(config, prepared, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    whole = SystemMetricsMonitor.publish_metrics
    published = threading.Event()

    def publish_metrics(*given):
        whole(*given)
        published.set()

    monkeypatch.setattr(SystemMetricsMonitor, "publish_metrics", publish_metrics)
    with track(config("tracking.timeout=100"), "train") as tracker, tracker.system_metrics():
        assert published.wait(100)
    metrics = runs(client())["train"].data.metrics
    assert 0 < metrics["system/system_memory_usage_percentage"] < 100
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= metrics.keys()


def test_system_metrics_end_with_the_server_in_one_warning_without_a_password(
    config, prepared, caplog, monkeypatch, capfd
):
    from mlflow.tracking.client import MlflowClient

    def away(*_):
        raise ConnectionError("API request to http://me:secret@example.org failed")

    monkeypatch.setattr(
        logging, "raiseExceptions", False
    )  # handlers of earlier tests write to streams that are closed
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with caplog.at_level(logging.WARNING), track(config(), "train") as tracker:
        monkeypatch.setattr(MlflowClient, "get_run", away)
        with tracker.system_metrics():
            until = time.monotonic() + 100
            while "No more system metrics" not in caplog.text and time.monotonic() < until:
                time.sleep(0.05)
    assert caplog.text.count("No more system metrics") == 1
    assert "secret" not in caplog.text + capfd.readouterr().err


def test_system_metrics_do_not_wait_long_for_a_server_that_hangs(config, prepared, monkeypatch):
    from mlflow.tracking.client import MlflowClient

    whole = MlflowClient.get_run
    asked = threading.Event()
    late = threading.Event()

    def get_run(*given):
        asked.set()
        late.wait(100)
        return whole(*given)

    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    with track(config("tracking.timeout=1"), "train") as tracker:
        monkeypatch.setattr(MlflowClient, "get_run", get_run)
        started = time.monotonic()
        with tracker.system_metrics():
            assert asked.wait(100)
        assert time.monotonic() - started < 90
        late.set()


def test_system_metrics_that_cannot_start_are_a_warning(
    config, prepared, client, caplog, monkeypatch
):
    monkeypatch.setitem(sys.modules, "mlflow.system_metrics.system_metrics_monitor", None)
    with (
        caplog.at_level(logging.WARNING),
        track(config(), "train") as tracker,
        tracker.system_metrics(),
    ):
        tracker.log({"loss": 1}, step=1)
    assert "No system metrics" in caplog.text
    assert runs(client())["train"].data.metrics == {"loss": 1}


def test_no_system_metrics_where_tracking_is_off_and_errors_pass_through(
    config, prepared, monkeypatch
):
    monkeypatch.setattr("stages.core.tracking.tracker.monitored", None)
    with (
        pytest.raises(UserError),
        track(config("tracking=disabled"), "train") as tracker,
        tracker.system_metrics(),
    ):
        raise UserError("the block's own")


def test_the_query_of_a_url_is_not_recorded(config, workspace, client):
    url = "https://host/a.jsonl?version=pa55w0rd"
    with track(config(f"data.source.path='{url}'"), "prepare"):
        pass
    run = parent(client())
    assert run.data.params["data.source.path"] == "https://host/a.jsonl?version=***"
    stored = Path(client().download_artifacts(run.info.run_id, "config.json")).read_text()
    assert "version=***" in stored and "pa55w0rd" not in stored


def test_the_address_of_a_server_with_a_password_is_not_printed(
    config, workspace, monkeypatch, capfd, caplog
):
    """MLflow prints the address of each run, and its errors hold the one of the server."""
    # Other tests leave handlers that write to closed streams, and logging prints what that raises.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://me:pa55w0rd@127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with track(config(), "prepare"):
            pass
    assert "http://***@127.0.0.1" in caplog.text and "pa55w0rd" not in caplog.text
    assert "pa55w0rd" not in "".join(capfd.readouterr())
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"
