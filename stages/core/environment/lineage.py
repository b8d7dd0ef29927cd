"""The origin of a result: commit, configuration, data, versions and hardware."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stages.core.config.schema import Config
from stages.core.data.leaks import hash_splits
from stages.core.data.records import PREPARED
from stages.core.storage.files import sha256_json

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "mlflow",
    "dvc",
    "hydra-core",
)


def dump_config(config: Config) -> dict[str, Any]:
    """Return the resolved configuration on which a result depends.

    `tracking` is left out, because no output depends on it. `candidate` is left out, because it
    differs between the stages of one execution.
    """
    return config.model_dump(by_alias=True, exclude={"tracking", "candidate"})


def config_sha256(config: Config) -> str:
    """Compute the SHA-256 of the result of `dump_config`."""
    return sha256_json(dump_config(config))


def data_sha256() -> dict[str, str]:
    """Compute the SHA-256 of each prepared split that exists."""
    return hash_splits(PREPARED)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which the numbers depend."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str | int]:
    """Describe the GPUs that torch uses, or the processor and its threads if there are none.

    This imports torch.
    """
    import torch

    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "count": torch.cuda.device_count()}
    return {"device": _processor(), "threads": torch.get_num_threads()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip() for line in _lines(info) if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []
