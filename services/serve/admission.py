"""Who may ask, how much, and how many at a time."""

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from time import perf_counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.serve.errors import ApiError
from services.serve.metrics import ServerMetrics
from services.serve.settings import ServeConfig
from stages.core.errors import UserError

KEYS = "TUNEPROOF_API_KEYS"
OPEN = ("/health",)
"""Paths that need no key."""
DISCARDED = 16
"""How many times the limit of a body is read and thrown away, so that its sender reads the error."""


def read_keys(settings: ServeConfig, environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """Read the keys from the environment, and return their hashes. Without any, all may ask.

    Raises:
        UserError: The variable has no key, or the server would listen to other machines without.
    """
    given = environment.get(KEYS)
    keys = [key.strip() for key in (given or "").split(",") if key.strip()]
    if given is not None and not keys:
        raise UserError(f"{KEYS} is set, but has no key. Give keys with commas between them")
    if not keys and not _is_loopback(settings.host):
        raise UserError(
            f"host={settings.host} can be reached from other machines, so the server needs keys. Set "
            f"{KEYS}, with commas between them, or use host=127.0.0.1"
        )
    return [_hash(key) for key in keys]


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _get_name(host: str) -> str:
    """Return the name in a header `Host`, without the port."""
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname or ""
    return ""


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


class Guard:
    """The first part of the application: it checks host, key and body, and counts requests."""

    def __init__(
        self, app: ASGIApp, keys: list[bytes], settings: ServeConfig, metrics: ServerMetrics
    ) -> None:
        """Take the application behind it, and the hashes of the keys."""
        self._app = app
        self._keys = keys
        self._limit = settings.max_body
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = perf_counter()
        statuses = []

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            self._check_key(scope["path"], headers)
            body = await self._read_body(headers, receive)
            await self._app(scope, body, send_counted)
        except ApiError as error:
            await error.respond()(scope, receive, send_counted)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, statuses[0] if statuses else "none").inc()
            self._metrics.seconds.labels(route).observe(perf_counter() - started)

    def _check_host(self, headers: Headers) -> None:
        """Refuse other names of this machine if there are no keys.

        A website could give its own name the address of this machine, and its visitors' browsers
        would then let its scripts read the answers (DNS rebinding).
        """
        host = headers.get("host", "")
        if not self._keys and not _is_loopback(_get_name(host)):
            said = (
                f"Without keys the server answers only to 127.0.0.1 and localhost, not to '{host}'. "
                f"Set {KEYS}."
            )
            raise ApiError(HTTPStatus.FORBIDDEN, said, "host_not_allowed")

    def _check_key(self, path: str, headers: Headers) -> None:
        if not self._keys or path in OPEN:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        asks = {"WWW-Authenticate": "Bearer"}
        if scheme.lower() != "bearer" or not key.strip():
            said = "You sent no API key. Send it as a header: Authorization: Bearer KEY."
            raise ApiError(HTTPStatus.UNAUTHORIZED, said, None, None, asks)
        sent = _hash(key.strip())
        # Every key is compared, so the time does not say which of them was right.
        if not sum(hmac.compare_digest(sent, known) for known in self._keys):
            said = "The API key is wrong."
            raise ApiError(HTTPStatus.UNAUTHORIZED, said, "invalid_api_key", None, asks)

    async def _read_body(self, headers: Headers, receive: Receive) -> Receive:
        """Read the whole body, and return a function that gives it and then what follows it."""
        parts: list[bytes] = []
        size = 0
        more = True
        while more and size <= DISCARDED * self._limit:
            message = await receive()
            if message["type"] != "http.request":  # the client has left
                break
            size += len(message.get("body", b""))
            parts = [*parts, message.get("body", b"")] if size <= self._limit else []
            more = message.get("more_body", False)
        if size > self._limit:
            said = f"The body is larger than {self._limit:,} bytes."
            raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said, "request_too_large")
        whole: list[Message] = [
            {"type": "http.request", "body": b"".join(parts), "more_body": False}
        ]

        async def receive_next() -> Message:
            return whole.pop() if whole else await receive()

        return receive_next


class Admission:
    """Counts the answers that are computed or wait, before the engine is asked."""

    def __init__(self, settings: ServeConfig, metrics: ServerMetrics) -> None:
        self._most = settings.max_running + settings.max_waiting
        self._metrics = metrics
        self._running = 0

    def take(self, count: int) -> None:
        """Count further answers.

        Raises:
            ApiError: There are too many.
        """
        if self._running + count > self._most:
            said = (
                f"The server already has {self._running} answers to write. Ask again in a second."
            )
            again = {"retry-after": "1"}
            status = HTTPStatus.TOO_MANY_REQUESTS
            raise ApiError(status, said, "rate_limit_exceeded", None, again)
        self.release(-count)

    def release(self, count: int) -> None:
        """Stop counting answers."""
        self._running -= count
        self._metrics.running.set(self._running)
