import httpx2
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import hf_raise_for_status

from stages.core.storage.hub import explain


def answer(status, **headers):
    """Return the error that the hub's client raises for a response."""
    url = "https://huggingface.co/api/datasets/owner/name?token=pa55w0rd"
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("GET", url))
    with pytest.raises(OSError) as error:
        hf_raise_for_status(response)
    return error.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answer(401, **{"X-Error-Code": "GatedRepo"}), "it is gated. Accept its terms"),
        (answer(403, **{"X-Error-Code": "GatedRepo"}), "it is gated. Accept its terms"),
        (answer(401, **{"X-Error-Code": "RepoNotFound"}), "cannot be found on the Hugging Face"),
        (answer(404, **{"X-Error-Code": "RepoNotFound"}), "cannot be found on the Hugging Face"),
        (answer(404, **{"X-Error-Code": "RevisionNotFound"}), "no such revision"),
        (answer(403), "answers 403: it denies access"),
        (answer(429), "answers 429: it gets too many requests"),
        (answer(503), "answers 503: it failed"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE forbids"),
        (
            httpx2.ConnectError("no route"),
            "cannot be reached, and no copy is in the cache: no route",
        ),
        (httpx2.ConnectTimeout("timed out"), "cannot be reached"),
        (httpx2.ReadTimeout("The read operation timed out"), "cannot be reached"),
        (LocalEntryNotFoundError("not here"), "cannot be reached"),
        (ValueError("a wrong name"), "a wrong name."),
    ],
)
def test_each_failure_of_the_hub_has_its_own_sentence(error, said):
    assert said in explain(error) and "pa55w0rd" not in explain(error)
    wrapped = OSError("transformers wraps it")
    wrapped.__cause__ = error
    if "a wrong name" not in said:
        assert said.split(":")[0] in explain(wrapped)
