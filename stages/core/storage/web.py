"""Downloads over HTTP, with a sentence for each way in which a server can fail."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from stages.core.errors import UserError, hide_secrets

if TYPE_CHECKING:
    from requests import RequestException, Response

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0  # the longest pause between two pieces of a body
PIECE = 1 << 20  # bytes
SHOWN = 300  # characters of a message of a library
PAGE = re.compile(rb"\s*<(!doctype\s+html|html)\b", re.IGNORECASE)

STATUS = {
    401: "asks for a user and a password, or rejects those it got. Put them into ~/.netrc, or use "
    "data=secret-url",
    403: "denies access. Ask its owner for access; if the URL is presigned, it may have expired",
    404: "has no such file. Check the URL",
    407: "is behind a proxy that asks for a user and a password. Check HTTPS_PROXY",
    410: "has removed the file for good. Ask its owner for the new address",
    429: "gets too many requests. Wait a few minutes and run the command again",
}
"""What a status says of the server and what to do, for the statuses that have a remedy."""


def is_web_address(path: str) -> bool:
    """Return whether a path is a URL over HTTP."""
    return path.lower().startswith(("http://", "https://"))


def get_url_path(url: str) -> str:
    """Return the path of a URL, decoded and without the query. Its name has the file extension.

    Raises:
        UserError: The URL is not valid.
    """
    try:
        return unquote(urlsplit(url).path)
    except ValueError as error:
        raise UserError(f"{hide_secrets(url)}: this is no valid URL: {error}") from None


@contextmanager
def downloaded(url: str, shown: str) -> Iterator[Path]:
    """Yield a temporary file with what is behind a URL. Its extension is that of the URL's path.

    Args:
        url: The URL, which may hold secrets.
        shown: The name of the URL in messages.

    Raises:
        UserError: The server cannot be reached, does not have the file, sends a web page instead,
            or does not send the file to its end.
    """
    import requests

    name = PurePosixPath(get_url_path(url)).name
    with tempfile.TemporaryDirectory(prefix="tuneproof-") as folder:
        target = Path(folder, re.sub(r"[^A-Za-z0-9._-]", "_", name) or "download")
        # Without this header a server may compress the body once more.
        headers = {"Accept-Encoding": "identity"}
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        try:
            with requests.get(url, stream=True, timeout=timeout, headers=headers) as response:
                _save(response, target, shown)
        except requests.RequestException as error:
            raise UserError(f"{shown}: {_explain(error)}") from None
        yield target


def explain_status(status: int) -> str:
    """Say in a sentence what the status of a response means and what to do."""
    if status >= 500:  # noqa: PLR2004 - the class of statuses by which a server blames itself
        said = "failed. This is not your mistake: try again later, or ask its operator"
    else:
        said = STATUS.get(status, "rejects the request. Open the URL in a browser to see why")
    return f"the server answers {status}: it {said}."


def _save(response: "Response", target: Path, shown: str) -> None:
    from tqdm import tqdm

    if response.status_code != 200:  # noqa: PLR2004
        raise UserError(f"{shown}: {explain_status(response.status_code)}")
    length = int(response.headers.get("Content-Length") or 0)
    with (
        target.open("wb") as file,
        tqdm(desc="download", total=length or None, unit="B", unit_scale=True, delay=2) as bar,
    ):
        for piece in response.iter_content(PIECE):
            if not bar.n and PAGE.match(piece):
                raise UserError(
                    f"{shown}: the server sends a web page and not a file of rows. It may ask for a "
                    "login. Use the address from which a browser downloads the file."
                )
            file.write(piece)
            bar.update(len(piece))


def _explain(error: "RequestException") -> str:
    """Say in a sentence why there is no complete response and what to do."""
    from requests import exceptions
    from urllib3.exceptions import (
        IncompleteRead,
        NameResolutionError,
        NewConnectionError,
        ReadTimeoutError,
    )

    causes = list(_list_wrapped(error))
    said = " ".join(hide_secrets(str(causes[-1])).split())[:SHOWN]
    sentences: dict[type[BaseException], str] = {
        exceptions.InvalidURL: f"this is no URL that can be read: {said}",
        exceptions.InvalidSchema: f"the server redirects to what is no file over HTTP: {said}",
        exceptions.TooManyRedirects: "the server redirects in a circle. Open the URL in a browser: "
        "it may ask for a login.",
        exceptions.SSLError: f"the certificate of the server is not trusted: {said}. Check the host "
        "and the clock. For a certificate authority of your own set REQUESTS_CA_BUNDLE to its file.",
        exceptions.ProxyError: f"the proxy cannot be used: {said}. Check HTTPS_PROXY and NO_PROXY.",
        exceptions.ConnectTimeout: "the server did not accept a connection within "
        f"{CONNECT_SECONDS:g} s. Check the host, the port and the network.",
        ReadTimeoutError: f"the server sent nothing for {READ_SECONDS:g} s. Try again later.",
        NameResolutionError: "there is no such host. Check the spelling of the URL, and the network.",
        NewConnectionError: f"no connection to the server: {said}. Check the host and the port, and "
        "whether the server is running.",
        IncompleteRead: "the download was cut off before its end. Run the command again.",
    }
    for kind, sentence in sentences.items():
        if any(isinstance(cause, kind) for cause in causes):
            return sentence
    return f"the download failed: {said}. Run the command again."


def _list_wrapped(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that it wraps, the innermost one last."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        wrapped = [getattr(inner, "reason", None), *reversed(inner.args), inner.__cause__]
        inner = next((cause for cause in wrapped if isinstance(cause, BaseException)), None)
