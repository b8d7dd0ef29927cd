import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from stages.core.config.hydra_plugins.refused_secrets import (
    list_refused_lines,
    list_refused_overrides,
)
from stages.core.config.schema import parse
from stages.core.errors import UserError
from tests.conftest import ROOT, compose_config

TOKEN = "ghp_" + "aB3" * 12


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("prompt.remote.api_key_env=pa55w0rd", "prompt.remote.api_key_env: expected the name"),
        (
            "prompt.remote.api_key_env=hf_pa55w0rdpa55w0rdpa55w0rdpa55w0rd",
            "holds a secret (Hugging Face token)",
        ),
        (
            "+evaluate.options.judge={api_key_env: pa55w0rd}",
            "evaluate.options.judge.api_key_env: ex",
        ),
        ("+train.args.hub_token=pa55w0rd", "train.args.hub_token: takes a secret"),
        ("+train.args.push={password: pa55w0rd}", "train.args.push.password: takes a secret"),
        ("data.name=https://me:pa55w0rd@host/", "data.name: holds the user or password of a URL"),
        ("tracking.uri=http://me:pa55w0rd@host:5000", "tracking.uri: holds the user or password"),
        (
            "model.name='https://host/m?X-Amz-Signature=pa55w0rd'",
            "model.name: holds the parameter X-Am",
        ),
        ("+engine.args=[--api-key,pa55w0rd]", "engine.args: --api-key takes a secret"),
        (
            "+train.launcher.parameters={slurm_setup: ['export HF_TOKEN=pa55w0rd']}",
            "train.launcher.parameters.slurm_setup: HF_TOKEN takes a secret",
        ),
        (
            "+data.column_mapping={text: hf_pa55w0rdpa55w0rdpa55w0rdpa55w0rd}",
            "data.column_mapping.text: ho",
        ),
    ],
)
def test_a_secret_is_refused_by_its_key_and_not_repeated(override, said):
    with pytest.raises(UserError) as error:
        parse(compose_config("prompt/remote=openai", "prompt.remote.model=m", override))
    assert said in str(error.value) and "pa55w0rd" not in str(error.value)


def test_the_name_of_a_variable_passes():
    chosen = ["prompt/remote=openai", "prompt.remote.model=m", "prompt.remote.api_key_env=MY_KEY"]
    assert parse(compose_config(*chosen)).prompt.remote.api_key_env == "MY_KEY"


def test_a_wrong_value_is_shown_without_its_password():
    with pytest.raises(UserError, match=r"prompt\.remote\.base_url: .*\?x=\*\*\*'"):
        parse(
            compose_config(
                "prompt/remote=openai",
                "prompt.remote.model=m",
                "prompt.remote.base_url='ftp://h?x=1'",
            )
        )


@pytest.mark.parametrize(
    "value", ["${oc.env:HIDDEN}", "${oc.env:HIDDEN,x}", "a ${oc.decode:${oc.env:HIDDEN}}"]
)
def test_the_environment_does_not_enter_the_configuration(value, monkeypatch):
    monkeypatch.setenv("HIDDEN", "pa55w0rd")
    cfg = OmegaConf.merge(compose_config(), {"data": {"name": value}})
    with pytest.raises(SystemExit) as error:
        parse(cfg)
    assert str(error.value).startswith("data.name: ") and "pa55w0rd" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exp", "run", "-S", f"data.name={TOKEN}"], "data.name: holds a secret (GitHub token)"),
        (
            [f"--set-param=params.yaml:data.name={TOKEN}"],
            "data.name: holds a secret (GitHub token)",
        ),
        (["-S+prompt.remote.api_key_env=abc"], "prompt.remote.api_key_env: expected the name"),
        (["engine.args=[--hf-token=abc]"], "engine.args: --hf-token takes a secret"),
    ],
)
def test_a_secret_on_the_command_line_is_named(arguments, said):
    (message,) = list_refused_overrides(arguments)
    assert message.startswith(said) and TOKEN not in message


def test_overrides_without_secrets_pass():
    plain = ["-S", "prompt.remote.api_key_env=null", "a.b_env=${c}", "x='a: b: c'", "--queue"]
    assert not list(
        list_refused_overrides([*plain, "train.args.eos_token=x", "checks.secret=drop"])
    )


def test_a_secret_in_a_file_is_named_by_its_line(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(f"name: x\n# old: {TOKEN}\n")
    (message,) = list_refused_lines(tmp_path)
    assert "mine.yaml, line 2: holds a secret (GitHub token)" in message and TOKEN not in message
    assert not list(list_refused_lines(ROOT / "conf"))


@pytest.mark.parametrize("value", ["${oc.env:HIDDEN}", TOKEN])
def test_dvc_composes_no_secret(value, tmp_path, monkeypatch):
    """DVC's process has plugins but not Tuneproof on its import path."""
    monkeypatch.setenv("HIDDEN", "pa55w0rd")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    compose = (
        "import sys; from dvc.utils.hydra import compose_and_dump as compose;"
        "root, out, override = sys.argv[1:];"
        "plugins = f'{root}/stages/core/config';"
        "compose(out, f'{root}/conf', None, 'config', plugins, [override])"
    )
    out = tmp_path / "params.yaml"
    done = subprocess.run(
        [sys.executable, "-c", compose, str(ROOT), str(out), f"data.name={value}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode and "data.name: " in done.stderr and not out.exists()
    assert "pa55w0rd" not in done.stderr and TOKEN not in done.stderr
