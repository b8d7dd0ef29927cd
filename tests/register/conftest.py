"""What the stages before `register` leave, on the tiny model."""

import json
import shutil
from pathlib import Path

import pytest

from tests.register.evaluated_stages import OPEN, THINKING, run_stages

__all__ = ["OPEN", "THINKING"]


@pytest.fixture(scope="session")
def stages_up_to_register(tmp_path_factory):
    return run_stages(tmp_path_factory.getbasetemp() / "evaluated")


@pytest.fixture
def evaluated(stages_up_to_register, workspace):
    """What the stages up to `register` have left, on the tiny model."""
    shutil.copytree(stages_up_to_register, workspace, dirs_exist_ok=True)


def outcome():
    return json.loads(Path("metrics/register.json").read_text())


def said():
    """The conditions of the gate as lines of a review."""
    return [
        f"{'passed' if found['passed'] else 'failed'}: {found['sentence']}"
        for found in outcome()["conditions"]
    ]
