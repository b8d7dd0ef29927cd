"""A registered version of the tiny model, which the exports only read."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from stages.core.config.schema import read_params
from stages.register.__main__ import main as register
from tests.conftest import TINY, compose_config, entered
from tests.register.evaluated_stages import OPEN, run_stages
from tools.export import converter
from tools.export.options import ExportOptions
from tools.export.source import open_source

MODEL = "tuneproof-chat-jsonl@champion"
FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(scope="session")
def registered(tmp_path_factory):
    evaluated = run_stages(tmp_path_factory.getbasetemp() / "evaluated")
    with entered(tmp_path_factory.mktemp("registered")) as folder:
        shutil.copytree(evaluated, folder, dirs_exist_ok=True)
        settings = compose_config(*TINY, *OPEN)
        register(settings)
        OmegaConf.save(settings, "params.yaml", resolve=True)
    return folder


@pytest.fixture
def source(registered, monkeypatch):
    monkeypatch.chdir(registered)
    monkeypatch.setenv("DVC_ROOT", str(registered))
    return open_source(MODEL, read_params())


@pytest.fixture
def fake_converter(monkeypatch):
    """Let the child process import a converter of the tests, which knows only the tiny model."""
    monkeypatch.setattr(converter, "_get_path", lambda: str(FAKES))


def copy_artifacts(source, to):
    """Return a source whose files may be changed."""
    shutil.copytree(source.folder, to)
    return replace(source, folder=to)


def options(kind, **others):
    return ExportOptions(model=MODEL, format=kind, **others)


def proved(proofs):
    return {proof.what: proof.proved for proof in proofs}
