"""A vLLM server as a child process, asked over HTTP on the loopback interface.

Command line and fields are those of vLLM 0.32.0, compared with its source; the parser of 0.33.0 took the command, and
its model of a request took the body (`structured_outputs` is as the documentation has it). A server of it was never run
here, for it needs a GPU: the tests run a small one of their own that speaks the same protocol.
"""

import http.client
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from stages.core.errors import UserError

NAME = "tuneproof"  # under which the server serves its only model
READY_SECONDS = 5
REQUEST_SECONDS = 600
STOP_SECONDS = 20
LOG_LINES = 30  # in a message


@dataclass(frozen=True, slots=True)
class Completion:
    """What the server said to one prompt."""

    ids: list[int]
    """The answer's tokens, the end token included where there is one."""
    cut: bool
    """Whether the answer was ended by the limit."""


class Server:
    """One server with one model, in a process group of its own."""

    def __init__(self, command: list[str], log: Path) -> None:
        """Start `command` with an address added; what it says goes to the file `log`."""
        self._log = log
        self._port = _free_port()
        self._closed = False
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--served-model-name", NAME]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*command, *address],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its workers are in its group and end with it; Ctrl-C comes to us alone
                env=os.environ | {"DO_NOT_TRACK": "1"},
            )

    def wait(self, seconds: float) -> None:
        """Return when the server is ready.

        Raises:
            UserError: it ended, or was not ready after so many seconds; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise UserError(
                    f"engine: vLLM ended with status {self._process.returncode}{self._tail()}"
                )
            with suppress(OSError, http.client.HTTPException):
                if self._request("GET", "/health", None, READY_SECONDS)[0] == http.HTTPStatus.OK:
                    return
            time.sleep(0.1)
        raise UserError(
            f"engine: vLLM was not ready after engine.start_seconds={seconds}{self._tail()}"
        )

    def complete(
        self,
        prompt: list[int],
        max_new_tokens: int,
        choices: list[str] | None = None,
        ignore_eos: bool = False,
    ) -> Completion:
        """The greedy answer.

        Args:
            prompt: token ids.
            max_new_tokens: where the answer is cut.
            choices: the only possible answers; None allows every answer.
            ignore_eos: whether the answer goes on after an end token, for timings.

        Raises:
            UserError: the server refused the prompt, or went away.
        """
        body = {
            "model": NAME,
            "prompt": prompt,
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "ignore_eos": ignore_eos,  # of vLLM too
            "return_token_ids": True,  # of vLLM: `prompt_token_ids` and `token_ids` in the choice
        }
        if choices is not None:
            body["structured_outputs"] = {"choice": choices}
        try:
            status, content = self._request(
                "POST", "/v1/completions", orjson.dumps(body), REQUEST_SECONDS
            )
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"engine: vLLM does not answer any more ({error!r}){self._tail()}"
            ) from None
        if status != http.HTTPStatus.OK:
            raise UserError(
                f"engine: vLLM answered {status}: {content.decode(errors='replace')[:2000]}{self._tail()}"
            )
        choice: dict[str, Any] = orjson.loads(content)["choices"][0]
        if choice["prompt_token_ids"] != prompt:
            raise RuntimeError("vLLM read other tokens than it was sent")
        return Completion(choice["token_ids"], cut=choice["finish_reason"] == "length")

    def close(self) -> None:
        """End the server and its workers and wait for it, for they hold the GPU; more than once is fine."""
        if self._closed:
            return
        try:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self._closed = True  # the number of the group may soon be another's
            with suppress(ProcessLookupError):  # there is no such group any more
                os.killpg(
                    self._process.pid, signal.SIGKILL
                )  # workers too that outlived their parent
                self._process.wait()
                for _ in range(100):
                    os.killpg(self._process.pid, 0)
                    time.sleep(0.05)

    def _request(
        self, method: str, path: str, body: bytes | None, timeout: float
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=timeout
        )  # minds no proxy
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _tail(self) -> str:
        return "; its log ends:\n" + "\n".join(
            self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
