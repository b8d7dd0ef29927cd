"""What the stages before `register` leave, on the tiny model."""

import functools
import json
import shutil
from pathlib import Path

import pytest

from stages.baseline.__main__ import main as baseline
from stages.evaluate.__main__ import main as evaluate
from stages.train.__main__ import main as train
from tests.conftest import TINY, compose_config, entered, write_splits
from tests.control_tokenizers import QWEN3

# A thinking model, which does not think in any arm.
THINKING = (
    "model.chat_template=thinking.jinja",
    "+model.chat_template_kwargs.enable_thinking=false",
)
OPEN = (
    "register=one-task",
    "register.gate.verdict=null",
    "register.gate.min_primary_metric=0.0",
    "register.gate.max_cut_fraction=1.0",  # the random model never ends its answers
    "+register.licenses.chat-jsonl=LicenseRef-own",
    "train.args.num_train_epochs=1",
    *THINKING,
)


@functools.cache
def run_stages(folder):
    """Run the stages once, also if several folders of tests have the fixture below."""
    folder.mkdir()
    with entered(folder):
        write_splits()
        Path("thinking.jinja").write_text(QWEN3)
        for stage in (baseline, train, evaluate):
            stage(compose_config(*TINY, *OPEN))
    return folder


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
