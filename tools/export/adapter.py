"""Export the adapter of a version as a folder of PEFT."""

import shutil
from pathlib import Path

from stages.core.errors import UserError
from stages.core.models.adapters import CONFIG, HEAD_CONFIG, NEEDED, WEIGHTS
from stages.core.models.base_models import ModelFiles
from stages.core.models.candidates import tuned_candidates
from stages.core.models.encoders import get_encoder
from stages.core.models.loading import TUNED, get_tuned_model, weights_sha256
from stages.core.tracking.version_files import ADAPTER, TOKENIZER
from tools.export.merged import check_files, check_tokenizer
from tools.export.proof import Proof
from tools.export.source import Source
from tools.export.tensors import compare_exactly


def export_adapter(source: Source, folder: Path) -> list[Proof]:
    """Copy the adapter and the tokenizer, and check that base and adapter give the registered weights.

    Args:
        source: The registered version.
        folder: An empty folder.

    Raises:
        UserError: The adapter or its base model is not here, or they give other weights.
    """
    adapter = find_adapter(source)
    base = find_base(source)
    for name in (*NEEDED, HEAD_CONFIG):
        if (adapter / name).exists():
            shutil.copyfile(adapter / name, folder / name)
    proofs = [check_files(folder, {WEIGHTS: adapter / WEIGHTS}, "model_sha256")]
    shutil.copytree(source.folder / TOKENIZER, folder, dirs_exist_ok=True)
    merged = get_tuned_model(base, source.dtype, folder, source.kind)
    count = compare_exactly(
        source.load_model().state_dict(), merged.state_dict(), "the base model with the adapter"
    )
    tags = source.version.tags
    sentence = (
        f"the base model {tags['base_model']} ({tags['base_model_sha256'][:12]}) with the adapter "
        f"merged in has all {count} registered tensors, bit by bit"
    )
    proofs.append(Proof("tensors", True, sentence, {"tensors": count}))
    return [*proofs, *check_tokenizer(source, folder)]


def find_adapter(source: Source) -> Path:
    """Return the folder of the adapter: that of the version, or `models/tuned` of the workspace.

    Raises:
        UserError: Neither has the adapter that was registered.
    """
    expected = source.version.tags["model_sha256"]
    logged = source.folder / ADAPTER
    for folder in (logged, TUNED):
        if (folder / CONFIG).exists() and weights_sha256(folder) == expected:
            return folder
    if (TUNED / "model.safetensors").exists() and weights_sha256(TUNED) == expected:
        raise UserError(
            f"{source.version.uri} has no adapter, because all of its weights were trained. Choose "
            "format=merged"
        )
    raise UserError(
        f"{source.version.uri} has no adapter beside its merged weights. All weights were trained, or "
        f"an earlier version of Tuneproof registered it. Choose format=merged, or restore {TUNED} "
        f"with weights of the SHA-256 {expected[:12]} (`dvc checkout` at commit "
        f"{source.version.tags.get('git_commit', 'unknown')[:12]})"
    )


def find_base(source: Source) -> ModelFiles:
    """Return the files of the base model that the version was trained on.

    Raises:
        UserError: The configuration of the workspace names another one.
    """
    expected = source.version.tags["base_model_sha256"]
    for candidate in tuned_candidates(source.config):
        base = get_encoder(candidate.config)
        if expected in (base.sha256, base.revision):
            return base
    raise UserError(
        f"params.yaml names another base model than that of {source.version.uri}, which is "
        f"{source.version.tags['base_model']} ({expected[:12]}), so the adapter cannot be checked. "
        "Restore the params.yaml of commit "
        f"{source.version.tags.get('git_commit', 'unknown')[:12]}, or choose format=merged"
    )
