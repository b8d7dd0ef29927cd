"""What every stage does around its work."""

import errno
import logging
import os
import socket

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from stages.core.entrypoint import (
    PRIMITIVES,
    SPINNING,
    one_stage_at_a_time,
    plain_main,
    stage_main,
    tool_main,
)
from stages.core.errors import UserError
from stages.core.failures import LOGS
from tests.conftest import TINY, compose_config


@pytest.fixture
def seen(monkeypatch):
    """What a stage finds in the environment, which holds none of the settings before."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", PRIMITIVES[0], SPINNING[0]):
        monkeypatch.delenv(name, raising=False)

    def look():
        found = {}
        plain_main("train")(lambda _: found.update(os.environ))(OmegaConf.create({}))
        return found

    return look


@pytest.mark.parametrize("setting", [PRIMITIVES, SPINNING])
def test_threads_are_set_unless_told_otherwise(monkeypatch, seen, setting):
    name, value = setting
    assert seen()[name] == value
    monkeypatch.setenv(name, "7")
    assert seen()[name] == "7"


def test_a_wait_policy_of_the_user_stays(monkeypatch, seen):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert SPINNING[0] not in seen()


def test_workers_of_the_queue_share_the_cores(monkeypatch, seen):
    assert "OMP_NUM_THREADS" not in seen()
    monkeypatch.setattr("stages.core.entrypoint.count_queue_workers", lambda: 2)
    monkeypatch.setattr("stages.core.entrypoint.count_cores", lambda: 3)
    assert seen()["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert seen()["OMP_NUM_THREADS"] == "5"


@pytest.fixture
def fail(workspace):
    """Return the message and the exit status of a stage that fails with an error."""

    def run(error):
        def work(_):
            raise error

        with pytest.raises(SystemExit) as ended:
            plain_main("train")(work)(OmegaConf.create({}))
        return ended.value.code

    return run


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("I/O error: No space left on device"),
        RuntimeError("x: No space left on device"),
    ],
)
def test_a_full_disk_is_one_message_whoever_wraps_it(fail, error):
    said = fail(error)
    assert said.startswith("\ntrain: No space left on device")
    # The outputs of prepare were new and its metrics old.
    assert "some outputs may be of this run and others of an earlier one" in said
    assert "Traceback" not in said and not LOGS.exists()


def test_messages_and_logs_of_libraries_show_no_password(capsys):
    url = "http://me:pa55w0rd@host/a?token=pa55w0rd"

    def work(_):
        log = logging.getLogger("library")
        log.warning("retrying %s", url)
        try:
            raise ValueError(url)
        except ValueError:
            log.exception("failed")
        raise UserError(f"{url} does not answer")

    with pytest.raises(
        SystemExit, match=r"train: http://\*\*\*@host/a\?token=\*\*\* does not answer"
    ):
        plain_main("train")(work)(OmegaConf.create({}))
    said = capsys.readouterr().err
    assert "retrying http://***@host/a?token=***" in said and "ValueError: http://***@host" in said
    assert "pa55w0rd" not in said


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "right to read and write"),
        (errno.EROFS, "Work in a copy"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.ENOTDIR, "move it away"),
    ],
)
def test_an_error_of_the_users_system_names_the_path_and_what_to_do(fail, number, advice):
    said = fail(OSError(number, os.strerror(number), "models/tuned"))
    assert f"train: {os.strerror(number)}: models/tuned. " in said and advice in said
    assert "defect" not in said


def test_a_bad_override_is_a_mistake(fail):
    assert "defect" not in fail(ConfigCompositionException("Could not override 'trian'."))


def test_too_little_memory_is_no_defect(fail):
    assert "not enough memory" in fail(MemoryError())


def test_a_defect_is_reported_with_its_log_and_without_secrets(fail, capsys):
    said = fail(KeyError("https://me:hunter2@example.org\nand more"))
    assert said.startswith("\ntrain: this is a defect of Tuneproof and not a mistake of yours.\n")
    assert "KeyError: 'https://***@example.org" in said and "issues of the repository" in said
    (log,) = LOGS.glob("train-*.log")
    assert str(log.resolve()) in said and "in work" in log.read_text()
    assert "hunter2" not in said + log.read_text() and "Traceback" not in capsys.readouterr().err


def test_a_traceback_is_shown_on_request(fail, monkeypatch, capsys):
    monkeypatch.setenv("TUNEPROOF_TRACEBACK", "1")
    fail(ZeroDivisionError("x"))
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_is_shown(fail):
    LOGS.parent.write_text("a file where the folder of the logs belongs")
    said = fail(ZeroDivisionError("x"))
    assert "could not be written" in said and "in work" in said


def test_an_interruption_ends_quietly(fail):
    assert fail(KeyboardInterrupt()) == 130


def test_a_tool_fails_as_a_stage_does(workspace):
    def tool():
        raise UserError("there is no verdict")

    with pytest.raises(SystemExit, match="verdict: there is no verdict"):
        tool_main("verdict")(tool)()


def test_a_second_stage_in_the_folder_is_refused(workspace, monkeypatch):
    """The lock covers every stage: `evaluate` must not read what `prepare` is replacing."""
    monkeypatch.setattr("stages.core.entrypoint.WAIT", 0)
    ran = []

    def run(stage):
        plain = stage_main(stage)(lambda *_: ran.append(stage))
        plain(compose_config(*TINY, "tracking=disabled"))

    with one_stage_at_a_time(), pytest.raises(SystemExit, match="is in use by process"):
        run("evaluate")
    run("evaluate")
    assert ran == ["evaluate"]


def test_leftovers_of_killed_processes_are_removed_before_a_stage(workspace):
    left = workspace / "reports" / f".verdict.json.{socket.gethostname()}~99999999.partial"
    left.parent.mkdir()
    left.write_text("half")
    with one_stage_at_a_time():
        assert not left.exists()
