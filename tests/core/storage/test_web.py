import ssl
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from stages.core.errors import UserError
from stages.core.storage import web
from stages.core.storage.web import downloaded, explain_status
from tests.web_server import WebServer


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """Ask the local server itself, whatever proxy this machine has."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def server():
    with WebServer() as it:
        yield it


def fail(url):
    with pytest.raises(UserError) as error, downloaded(url, "https://***@host/rows.jsonl"):
        pass
    assert str(error.value).startswith("https://***@host/rows.jsonl: ")
    return str(error.value)


def test_a_file_is_downloaded_under_the_extension_of_the_path(server):
    body = b"x" * 3_000_000
    server.files["/a b/rows.jsonl.gz?version=[3]*&x=a.csv"] = body
    with downloaded(f"{server.url}/a%20b/rows.jsonl.gz?version=[3]*&x=a.csv", "x") as path:
        assert path.name == "rows.jsonl.gz" and path.read_bytes() == body
    assert not path.exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("status/400", "answers 400: it rejects the request. Open the URL in a browser"),
        ("status/401", "answers 401: it asks for a user and a password, or rejects those"),
        ("status/403", "answers 403: it denies access. Ask its owner"),
        ("status/404", "answers 404: it has no such file. Check the URL"),
        ("status/410", "answers 410: it has removed the file for good"),
        ("status/429", "answers 429: it gets too many requests. Wait"),
        ("status/500", "answers 500: it failed. This is not your mistake"),
        ("status/503", "answers 503: it failed. This is not your mistake"),
        ("loop", "redirects in a circle"),
        ("cut", "was cut off before its end. Run the command again"),
        ("page", "sends a web page and not a file of rows"),
    ],
)
def test_each_failure_of_a_server_has_its_own_sentence(server, path, said):
    assert said in fail(f"{server.url}/{path}/rows.jsonl")


def test_a_silent_server_and_one_that_takes_no_connection_end_in_time(server, monkeypatch):
    monkeypatch.setattr(web, "READ_SECONDS", 0.1)
    assert "sent nothing for 0.1 s" in fail(f"{server.url}/silent/rows.jsonl")
    monkeypatch.setattr(web, "CONNECT_SECONDS", 0.01)
    import requests

    def wait(*_, timeout, **__):
        raise requests.ConnectTimeout(f"{timeout}")

    monkeypatch.setattr(requests, "get", wait)
    assert "did not accept a connection within 0.01 s" in fail(f"{server.url}/rows.jsonl")


def test_a_host_that_is_away_or_unknown_and_an_address_that_is_none():
    with WebServer() as it:
        address = it.url
    assert "Connection refused" in fail(f"{address}/rows.jsonl")
    assert "there is no such host" in fail("http://no-such-host.invalid/rows.jsonl")
    assert "no URL that can be read" in fail("http://host:port/rows.jsonl")


@pytest.fixture
def untrusted(tmp_path):
    """A server over HTTPS with a certificate that nobody has signed."""
    key = tmp_path / "key.pem"
    certificate = tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-days", "1", "-nodes"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-keyout",
            key,
            "-out",
            certificate,
            *subject,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_certificate_that_is_not_trusted_is_named(untrusted):
    said = fail(f"{untrusted}/rows.jsonl")
    assert "the certificate of the server is not trusted" in said and "REQUESTS_CA_BUNDLE" in said


def test_no_status_is_without_a_sentence():
    assert all(explain_status(status).endswith(".") for status in range(300, 600))
