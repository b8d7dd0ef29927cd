"""The files of an adapter from which training starts."""

from dataclasses import dataclass
from pathlib import Path

from stages.core.config.train_options import InitAdapter
from stages.core.errors import UserError
from stages.core.storage.cache import get_sha256
from stages.core.storage.files import sha256_json
from stages.core.storage.hub import explain

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
NEEDED = (CONFIG, WEIGHTS)
HEAD_CONFIG = "config.json"  # beside the adapter of a classifier; it has the labels
TRAINING = "training.json"  # beside an adapter that Tuneproof trained


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """The folder of an adapter, and the hash of its configuration and weights."""

    folder: Path
    revision: str | None
    """The commit on the hub; null for a local folder."""
    sha256: str


def get_init_adapter(own: InitAdapter) -> AdapterFiles | None:
    """Return the files of `train.init_adapter`, which are fetched if they are not cached.

    Returns:
        The files, or None if training starts without an adapter.

    Raises:
        UserError: The adapter does not exist, or has no safetensors.
    """
    if own.source is None:
        return None
    local = Path(own.source).is_dir()
    folder = Path(own.source) if local else _fetch(own.source, own.revision)
    for name in NEEDED:
        if not (folder / name).is_file():
            raise UserError(
                f"train.init_adapter.source {own.source!r}: it has no {name}. Name a folder or a "
                "model on the hub with an adapter of peft in safetensors, such as a copy of "
                "models/tuned"
            )
    digest = sha256_json([get_sha256(folder / name) for name in NEEDED])
    return AdapterFiles(folder, None if local else folder.name, digest)


def _fetch(source: str, revision: str | None) -> Path:
    """Return the folder of the hub's cache with an adapter, which is named by its commit."""
    from httpx2 import TransportError
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, revision=revision, allow_patterns=[*NEEDED, HEAD_CONFIG])
        )
    except (OSError, ValueError, TransportError) as error:
        raise UserError(
            f"train.init_adapter.source {source!r}: it is no folder here, and {explain(error)}"
        ) from None
