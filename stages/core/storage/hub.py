"""The Hugging Face Hub: its cached weights, and a sentence for each way in which it can fail."""

import re
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import UserError, hide_secrets
from stages.core.storage.cache import get_sha256
from stages.core.storage.files import read_json
from stages.core.storage.web import SHOWN, explain_status


def explain(error: BaseException) -> str:
    """Say in a sentence why the hub did not give a file, and what to do."""
    from httpx2 import TransportError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    sentences = {
        GatedRepoError: "it is gated. Accept its terms on its page on the hub, and set HF_TOKEN to a "
        "token of the same account.",
        RevisionNotFoundError: "the hub has no such revision. Check the commit, tag or branch.",
        RepositoryNotFoundError: "cannot be found on the Hugging Face Hub. Check the id "
        "(owner/name). If it is private, set HF_TOKEN.",
        OfflineModeIsEnabled: "it is not in the cache, and HF_HUB_OFFLINE forbids to ask the "
        "Hugging Face Hub. Unset HF_HUB_OFFLINE, or name a local folder.",
    }
    causes = list(_list_causes(error))
    for cause in causes:
        for kind, sentence in sentences.items():
            if isinstance(cause, kind):
                return sentence
    said = " ".join(hide_secrets(str(error)).split())[:SHOWN].rstrip(". ")
    for cause in causes:
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            token = " Check HF_TOKEN." if status in (401, 403) else ""
            return f"{explain_status(status)}{token}"
        if isinstance(cause, LocalEntryNotFoundError | ConnectionError | TransportError):
            return (
                f"the Hugging Face Hub cannot be reached, and no copy is in the cache: {said}. Check "
                "the network and the proxy (HTTPS_PROXY), or name a local folder."
            )
    return f"{type(error).__name__}: {said}."


def get_weights(name: str, commit: str | None) -> list[Path]:
    """Return the safetensors of a model on the hub, in the hub's cache, after checking their bytes.

    The cache names a large file by its SHA-256. Missing files are downloaded.

    Returns:
        The files that transformers loads, or an empty list if the model has no safetensors.

    Raises:
        UserError: The hub cannot be reached, or a file in the cache is damaged.
    """
    from httpx2 import TransportError
    from transformers.utils.hub import cached_file, cached_files

    options = {"revision": commit, "_raise_exceptions_for_missing_entries": False}
    try:
        single = cached_file(name, "model.safetensors", **options)
        index = None if single else cached_file(name, "model.safetensors.index.json", **options)
        parts = sorted(set(read_json(Path(index))["weight_map"].values())) if index else []
        found = [single] if single else cached_files(name, parts, **options) if parts else []
    except (OSError, ValueError, TransportError) as error:
        raise UserError(f"{name}: {explain(error)}") from None
    paths = [Path(path) for path in found or []]
    for path in paths:
        _check_blob(path)
    return paths


def _check_blob(path: Path) -> None:
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and get_sha256(blob) != blob.name:
        raise UserError(
            f"{blob}: this file in the cache of the Hugging Face Hub is damaged: its SHA-256 is "
            f"{get_sha256(blob)}. It is not used. Delete it and run the command again, which then "
            "downloads it anew."
        )


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it, the last one first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
