"""The Hugging Face Hub: a sentence for each way in which it can fail."""

from collections.abc import Iterator

from stages.core.errors import hide_secrets
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


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it, the last one first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
