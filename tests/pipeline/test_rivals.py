"""Rivals are stages of their own, and a whole experiment can be repeated."""

import json
import re
import sys

import pytest
from omegaconf import OmegaConf

from tests.pipeline.runs import get_files, get_runs

pytestmark = pytest.mark.pipeline

MINE = """# A person's own file of rivals: a classifier, and every weight of the base model.
defaults:
  - /train@classifier: sequence-classification
  - /train/encoder@classifier: tiny-random
  - /train/launcher@classifier.launcher: single
  - /train@whole: full
  - /train/launcher@whole.launcher: single
classifier: { args: { num_train_epochs: 1 } }
whole: { args: { max_steps: 2, logging_steps: 1, warmup_steps: 0 } }
"""


def list_changed(clone, key, value):
    """Return the stages that DVC would run because of another value in `params.yaml`."""
    path = clone.folder / "params.yaml"
    before = path.read_text()
    params = OmegaConf.create(before)
    OmegaConf.update(params, key, value)
    OmegaConf.save(params, path)
    said = clone("dvc", "status")
    path.write_text(before)
    return {line[:-1] for line in said.splitlines() if re.match(r"\S+:$", line)}


def test_rivals_are_stages_of_their_own_and_everything_can_be_repeated(clone):
    (clone.folder / "conf/rivals/mine.yaml").write_text(MINE)
    options = ["-S", "experiment=smoke", "-S", "rivals=mine", "-S", "train.seeds=[43]"]
    clone("dvc", "exp", "run", "-n", "rivals", *options)
    names = set(json.loads((clone.folder / "reports/verdict.json").read_text())["arms"])
    assert {"tuned", "classifier", "whole"} <= names
    assert (clone.folder / "predictions/seeds/tuned/43.jsonl").exists()
    assert "metrics/whole.json" in get_files(clone.folder, get_runs(clone.folder)["rivals"])
    assert "Data and pipelines are up to date" in clone("dvc", "repro")
    assert list_changed(clone, "rivals.whole.args.learning_rate", 1e-4) == {
        "rivals@whole",
        "evaluate",
        "register",
    }
    said = clone(sys.executable, "-m", "tools.repeat", "rivals")
    assert (
        "models/rivals/whole/model.safetensors" in said
        and " files are the same." in said
        and "different" not in said
    )
    clone("git", "checkout", "-q", "--", ".")
    (clone.folder / "conf/rivals/mine.yaml").unlink()
    clone("dvc", "exp", "run", "-S", "experiment=smoke", "-S", "train.seeds=[43]")
    assert not list((clone.folder / "models/rivals").iterdir())
    assert "Data and pipelines are up to date" in clone("dvc", "repro")
