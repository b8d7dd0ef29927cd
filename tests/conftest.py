"""Shared fixtures: composed configurations, a temporary workspace and a tiny random model."""

import copy
import functools
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from stages.core.config.schema import Config, TrackingConfig, parse
from stages.core.data.leaks import write_leaks
from stages.core.data.records import PREPARED, Record
from stages.core.models.base_models import ModelFiles, get_base_model
from stages.core.storage.files import write_jsonl
from stages.core.tracking import tracker as tracking

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    *(
        "model=tiny-random",
        "data=chat-jsonl",
        "data.source.path=rows.jsonl",
        "prompt.max_new_tokens=8",
    ),
    # Test rows are few and similar.
    *(
        "checks.min_test_rows=0",
        "checks.max_target_fraction=1.0",
    ),
)

HUGGING_FACE = tempfile.TemporaryDirectory(prefix="tuneproof-tests-")

os.environ.update(
    # A cache of its own, because processes that copy a metric's module into one cache collide.
    HF_HOME=HUGGING_FACE.name,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    DVC_NO_ANALYTICS="1",
    GIT_CONFIG_GLOBAL="/dev/null",
    # For the processes that tests start. Threads that wait for each other's core take longer.
    OMP_NUM_THREADS="1",
)
# `make gpu-check` sets this variable and runs the tests with the marker `gpu` alone.
WANTS_GPU = os.environ.get("TUNEPROOF_TEST_GPU") == "1"
if not WANTS_GPU:
    # The other tests hand a model tensors of the CPU and expect the attention of a CPU. CUDA reads
    # the variables when torch first asks for a device.
    os.environ.update(CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")
for name in (
    "MLFLOW_TRACKING_URI",
    "DVC_ROOT",
    "DVC_EXP_NAME",
    "DVC_EXP_BASELINE_REV",
    "TUNEPROOF_CACHE",
):
    os.environ.pop(name, None)


hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def compose_config(*overrides: str) -> DictConfig:
    """Compose a configuration. The caller may change the result."""
    return copy.deepcopy(_compose_once(overrides))


@functools.cache
def _compose_once(overrides: tuple[str, ...]) -> DictConfig:
    """Compose a configuration once.

    Composing takes a fifth of a second, and hundreds of tests need the same few options. Their own
    values are set on a copy, in the way in which Hydra sets them after it has composed the options.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [override for override in parsed if not _chooses_option(override)]
    options = tuple(override.input_line for override in parsed if _chooses_option(override))
    found = copy.deepcopy(_compose_options(options))
    ConfigLoaderImpl._apply_overrides_to_config(values, found)
    return found


@functools.cache
def _compose_options(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def _chooses_option(override: Override) -> bool:
    """Return whether an override chooses an option of a group, as Hydra decides it."""
    group = (ROOT / "conf" / override.key_or_group).is_dir()
    return override.is_hydra_override() or (group and not isinstance(override.value(), dict))


def pytest_unconfigure() -> None:
    HUGGING_FACE.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the pipeline tests first, and skip the tests that need a GPU where there is none.

    The pipeline tests take longest, and a test process that starts them last would finish long
    after the other.
    """
    items.sort(key=lambda item: item.get_closest_marker("pipeline") is None)
    for item in items:
        if item.get_closest_marker("gpu") and (reason := _why_no_gpu()):
            item.add_marker(pytest.mark.skip(reason=reason))


@functools.cache
def _why_no_gpu() -> str | None:
    """Return why tests cannot use a GPU, or None if they can."""
    if not WANTS_GPU:
        return "the tests hide the GPU, if there is one; `make gpu-check` runs this test"
    import torch

    return None if torch.cuda.is_available() else "torch sees no GPU"


def pytest_collection_finish() -> None:
    """Exclude the objects that the collection has imported from garbage collection.

    Each training runs a full collection, which takes a second over the millions of objects of
    torch, transformers and mlflow.
    """
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Use a new cache, so that no test depends on the cache of the machine."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["TUNEPROOF_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def copy_tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Return a function that copies an empty MLflow database to a path, and returns its URI.

    The database is made once, which takes a second.
    """

    @functools.cache
    def make_tables() -> Path:
        from mlflow import MlflowClient

        database = tmp_path_factory.mktemp("tables") / "mlflow.db"
        MlflowClient(f"sqlite:///{database}")
        return database

    return lambda path: f"sqlite:///{shutil.copy(make_tables(), path)}"


@pytest.fixture(scope="session", autouse=True)
def tables(copy_tables: Callable[[Path], str]) -> Iterator[None]:
    """Give each workspace a copy of the empty database."""
    plain = tracking.tracking_uri

    def tracking_uri(config: TrackingConfig) -> str:
        uri = plain(config)
        database = Path(uri.removeprefix("sqlite:///"))
        if uri.startswith("sqlite:///") and not database.exists():
            copy_tables(database)
        return uri

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "tracking_uri", tracking_uri)
        yield


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Restore the environment after each test.

    MLflow and the tracker set variables for child processes, which no other test should see.
    """
    with restored_environment():
        yield


@contextmanager
def restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def config() -> Callable[..., Config]:
    """Return a function that composes and validates a configuration with the tiny model."""
    return lambda *overrides: parse(compose_config(*TINY, *overrides))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into an empty folder, where stages read and write and MLflow keeps its store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@contextmanager
def entered(folder: Path) -> Iterator[Path]:
    """Use a folder as the workspace of a fixture that several tests share.

    Tests read or copy what the fixture leaves in the folder.
    """
    with pytest.MonkeyPatch.context() as patch, restored_environment():
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        yield folder


def chat(question: str, answer: str, system: str | None = None) -> Record:
    first = [{"role": "system", "content": system}] if system else []
    return Record.of(
        [*first, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    )


@pytest.fixture
def prepared(workspace: Path) -> dict[str, list[Record]]:
    """Write three small splits to `data/prepared`."""
    return write_splits()


def write_splits() -> dict[str, list[Record]]:
    numbers = {"train": range(24), "validation": range(24, 30), "test": range(30, 40)}
    parts = {
        name: [chat(f"Say {'very ' * (n % 5)}{n}.", f"number {n}", "Answer.") for n in part]
        for name, part in numbers.items()
    }
    for name, records in parts.items():
        write_jsonl(PREPARED / f"{name}.jsonl", records)
    write_leaks(PREPARED, held_out=16, leaking=0)
    return parts


@pytest.fixture
def base(config: Callable[..., Config]) -> ModelFiles:
    return get_base_model(config().model, seed=42)
