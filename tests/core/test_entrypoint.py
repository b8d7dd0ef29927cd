"""What every stage does around its work."""

import logging
import os

import pytest
from omegaconf import OmegaConf

from stages.core.entrypoint import PRIMITIVES, SPINNING, plain_main
from stages.core.errors import UserError


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


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("I/O error: No space left on device"),
        RuntimeError("x: No space left on device"),
    ],
)
def test_a_full_disk_is_one_message_whoever_wraps_it(error):
    def work(_):
        raise error

    with pytest.raises(SystemExit, match="train: no space left on the disk"):
        plain_main("train")(work)(OmegaConf.create({}))


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
