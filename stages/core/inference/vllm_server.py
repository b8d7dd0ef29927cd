"""Run a vLLM server as a child process and send it requests over HTTP on the loopback interface.

The command line and the request fields are those of vLLM 0.32.0 and were compared with its source.
The argument parser of vLLM 0.33.0 accepted the command, and its request model accepted the body.
The form of `structured_outputs` follows the documentation. A real vLLM server was never run here,
because it needs a GPU. The tests run a small server of their own that speaks the same protocol.
"""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from stages.core.errors import UserError, hide_secrets

NAME = "tuneproof"  # name under which the server serves its only model
READY_SECONDS = 5
REQUEST_SECONDS = 600
STOP_SECONDS = 20
LOG_LINES = 30  # shown in an error message


@dataclass(frozen=True, slots=True)
class Completion:
    """The server's answer to one prompt."""

    ids: list[int]
    """Token ids of the answer, including the end token if there is one."""
    cut: bool
    """Whether the answer stopped at the token limit."""


class Server:
    """A vLLM server for one model, in its own process group."""

    def __init__(self, command: list[str], log: Path) -> None:
        """Start `command` on a free local port and write its output to the file `log`."""
        self._log = log
        self._port = _free_port()
        self._closed = False
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--served-model-name", NAME]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*command, *address],
                stdout=file,
                stderr=subprocess.STDOUT,
                # The workers share the server's process group and end with it.
                # Ctrl-C reaches only this process.
                start_new_session=True,
                env=os.environ | {"DO_NOT_TRACK": "1"},
            )

    @property
    def url(self) -> str:
        """The address, which only this machine can reach."""
        return f"http://127.0.0.1:{self._port}"

    def is_running(self) -> bool:
        """Return whether the process of the server runs."""
        return not self._closed and self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Wait until the server is ready.

        Raises:
            UserError: The server exited, or was not ready after `seconds`. The message shows the
                end of the server's log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise UserError(
                    f"engine: vLLM exited with status {self._process.returncode}{self._tail()}"
                )
            with suppress(OSError, http.client.HTTPException):
                if self._request("GET", "/health", None, READY_SECONDS)[0] == http.HTTPStatus.OK:
                    return
            time.sleep(0.1)
        raise UserError(
            f"engine: vLLM was not ready after engine.startup_timeout={seconds}{self._tail()}"
        )

    def complete(
        self,
        prompt: list[int],
        max_new_tokens: int,
        choices: list[str] | None = None,
        ignore_eos: bool = False,
        ends: Collection[int] = (),
    ) -> Completion:
        """Get the greedy answer to a prompt.

        Args:
            prompt: Token ids.
            max_new_tokens: The answer is cut after this many tokens.
            choices: The only allowed answers; None allows any answer.
            ignore_eos: Whether generation continues after an end token, as timing runs need.
            ends: Token ids that end the answer, besides those of the model's generation settings.

        Raises:
            UserError: The server rejected the prompt or stopped responding.
        """
        body = {
            "model": NAME,
            "prompt": prompt,
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "ignore_eos": ignore_eos,  # a vLLM extension
            # A vLLM extension that adds `prompt_token_ids` and `token_ids` to the choice.
            "return_token_ids": True,
        }
        if ends and not ignore_eos:
            body["stop_token_ids"] = sorted(ends)  # a vLLM extension
        if choices is not None:
            body["structured_outputs"] = {"choice": choices}
        try:
            status, content = self._request(
                "POST", "/v1/completions", orjson.dumps(body), REQUEST_SECONDS
            )
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"engine: vLLM stopped responding ({error!r}){self._tail()}") from None
        if status != http.HTTPStatus.OK:
            raise UserError(
                f"engine: vLLM answered with HTTP status {status}: "
                f"{content.decode(errors='replace')[:2000]}{self._tail()}"
            )
        choice: dict[str, Any] = orjson.loads(content)["choices"][0]
        if choice["prompt_token_ids"] != prompt:
            raise RuntimeError("vLLM read different prompt tokens than it was sent")
        return Completion(choice["token_ids"], cut=choice["finish_reason"] == "length")

    def close(self) -> None:
        """Stop the server and its workers, and wait until they have released the GPU.

        Further calls do nothing.
        """
        if self._closed:
            return
        try:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self._closed = True  # the system may reuse the group id
            with suppress(ProcessLookupError):  # raised when the group is gone
                # This also kills workers that outlived their parent.
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                for _ in range(100):
                    os.killpg(self._process.pid, 0)
                    time.sleep(0.05)

    def _request(
        self, method: str, path: str, body: bytes | None, timeout: float
    ) -> tuple[int, bytes]:
        # HTTPConnection ignores proxy settings.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "; the end of its log:\n" + hide_secrets("\n".join(lines))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
