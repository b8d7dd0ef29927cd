import re
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from stages.core.config.hydra_plugins.renamed import (
    GROUPS,
    KEYS,
    OPTIONS,
    find_new_key,
    find_new_override,
    list_former_defaults,
)
from stages.core.config.schema import Config, list_keys, parse
from stages.core.errors import UserError
from tests.conftest import ROOT, compose_config


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("launcher=ddp", "train/launcher=ddp"),
        ("train=tag", "train=token-classification"),
        ("rivals=[encoder-tag,full]", "rivals=[encoder-tagger,full]"),
        ("+train.launcher.processes=2", "+train.launcher.num_processes=2"),
        ("++train.reward.options.x=1", "++train.grpo_rewards.primary.options.x=1"),
        ("rivals.full.kinds=[chat]", "rivals.full.record_types=[chat]"),
        ("rivals.full.reward.metric=chrf", "rivals.full.grpo_rewards.primary.metric=chrf"),
        ("data.label=null", "data.label_column=null"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(old, new):
    assert find_new_override(old) == new


@pytest.mark.parametrize(
    "override",
    ["train=lora", "data.label_column=x", "train/launcher=ddp", "data.columns_of_mine=1", "seed=1"],
)
def test_other_names_pass(override):
    assert find_new_override(override) is None


def test_a_former_name_in_a_defaults_list_is_answered_with_its_place(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "config.yaml").write_text("defaults:\n  - train: lora\n  - launcher: single\n")
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "defaults:\n"
        "  - override /train: tag # of words\n"
        "  - override /train/launcher: ddp\n"
        "  - launcher: single\n"
        "  - /encoder@rivals.tags.encoder: minilm\n"
        "notes:\n"
        "  - launcher\n"
    )
    top, option, group = list_former_defaults(tmp_path)
    assert f"{tmp_path / 'config.yaml'}, line 3: - launcher: single: this name has" in top
    assert "Write train/launcher: single." in top
    assert "mine.yaml, line 2" in option and "Write /train: token-classification." in option
    assert (
        "mine.yaml, line 5" in group
        and "Write /train/encoder@rivals.tags.encoder: minilm." in group
    )
    assert not list(list_former_defaults(ROOT / "conf"))


def test_every_new_name_exists_and_no_old_one_does():
    keys = {key for key, _ in list_keys(Config)}
    for old, new in KEYS.items():
        # `primary` is the name that conf/train/grpo.yaml gives the default reward.
        assert new.removesuffix(".primary") in keys and old not in keys, (old, new)
    conf = ROOT / "conf"
    for old, new in GROUPS.items():
        assert (conf / new).is_dir() and not (conf / old).exists()
    for old, new in OPTIONS.items():
        assert (conf / f"{new.replace('=', '/')}.yaml").exists()
        assert not (conf / f"{old.replace('=', '/')}.yaml").exists()


def test_the_documentation_lists_all_former_names():
    page = (ROOT / "docs" / "configuration.md").read_text()
    for old, new in {**GROUPS, **OPTIONS, **KEYS}.items():
        assert re.search(rf"\| `{re.escape(old)}` \| `{re.escape(new)}` \|", page), old


@pytest.mark.parametrize("old", ["search=thorough", "prompt.instruction=x", "energy=unmeasured"])
def test_the_command_line_of_a_stage_stops(old):
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare", old],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{old}: this name has changed. Write {find_new_override(old)}." in done.stderr


def test_a_file_with_an_old_key_stops():
    cfg = compose_config()
    OmegaConf.set_struct(cfg, False)
    cfg.train.kinds = ["chat"]
    with pytest.raises(UserError, match=r"train.kinds: .*Write train.record_types"):
        parse(cfg)


def test_the_command_line_of_dvc_stops(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "--dry", "-S", "launcher=ddp"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode and "Write train/launcher=ddp" in done.stderr


def test_keys_below_an_old_one_follow():
    assert find_new_key("train.reward.metric") == "train.grpo_rewards.primary.metric"
