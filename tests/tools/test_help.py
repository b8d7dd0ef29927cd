"""Every tool says how it is used, and refuses a word that it does not know before it does anything."""

import runpy
import sys

import pytest

from tests.conftest import ROOT

TOOLS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for path in ROOT.glob("tools/**/*.py")
    if "@tool_main(" in path.read_text()
)


def run(tool, word, monkeypatch):
    monkeypatch.setattr(sys, "argv", [tool, word])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(tool, run_name="__main__")
    return end.value.code


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("tool", TOOLS)
def test_help_names_the_command(tool, workspace, monkeypatch, capsys):
    assert not run(tool, "--help", monkeypatch)
    assert f"python -m {tool}" in capsys.readouterr().out
    assert list(workspace.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("tool", TOOLS)
def test_an_unknown_word_is_refused(tool, workspace, monkeypatch):
    assert run(tool, "--no-such-word", monkeypatch)
    assert list(workspace.iterdir()) == []
