"""Ask llama.cpp's server, which runs in a process of its own because it aborts on a defect."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core.data.records import Message
from stages.core.environment.processes import count_cores
from stages.core.errors import UserError, hide_secrets

PACKAGE = "xllamacpp"
INSTALL = "`pip install -c constraints.txt --group llama-cpp`"
PROCESS = Path(__file__).with_name("llama_cpp_process.py")
SECONDS = 600  # for one request
STOP_SECONDS = 20
SHOWN = 300  # characters of the server's log in a message


def is_installed() -> bool:
    """Return whether the package with llama.cpp's server is there."""
    return find_spec(PACKAGE) is not None


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """A running server of llama.cpp with one GGUF file."""

    address: str
    log: Path

    def tokenize(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[int]:
        """Encode a prompt as llama.cpp does for a chat: its own template engine and tokenizer."""
        chat = {"messages": list(messages)} | ({"tools": list(tools)} if tools else {})
        text = self._ask("/apply-template", chat)["prompt"]
        asked = {"content": text, "add_special": True, "parse_special": True}
        return list(self._ask("/tokenize", asked)["tokens"])

    def complete(self, prompt: Sequence[int], max_new_tokens: int) -> list[int]:
        """Return the token ids of the greedy answer to a prompt."""
        asked = {
            "prompt": list(prompt),
            "n_predict": max_new_tokens,
            "temperature": 0,
            "return_tokens": True,
            "cache_prompt": False,  # else an answer depends on those before it
        }
        return list(self._ask("/completion", asked)["tokens"])

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import requests

        session = requests.Session()
        session.trust_env = False  # no proxy for this machine
        try:
            reply = session.post(self.address + path, json=body, timeout=SECONDS)
        except requests.RequestException as error:
            raise UserError(
                f"llama.cpp's server stopped responding ({type(error).__name__}){self.tail()}"
            ) from None
        if not reply.ok:
            raise UserError(
                f"llama.cpp's server refuses {path}: {hide_secrets(reply.text)[:SHOWN]}"
            )
        return dict(reply.json())

    def tail(self) -> str:
        """Return the end of the server's log, for a message."""
        said = self.log.read_text(errors="replace").strip()[-SHOWN:]
        return f": {hide_secrets(said)}" if said else ""


@contextmanager
def llama_cpp(file: Path, context: int, slots: int = 1) -> Iterator[LlamaCpp]:
    """Start the server of llama.cpp with a GGUF file, and stop it after the block.

    Args:
        file: The GGUF file.
        context: The limit of a prompt with its answer, in tokens.
        slots: How many answers are computed at the same time.

    Raises:
        UserError: The server does not start with this file.
    """
    # With -P the modules beside the file do not hide packages of the same names.
    command = [sys.executable, "-P", str(PROCESS), str(file)]
    # Its threads spin while they wait, so two of them on shared cores are slower than one.
    command += ["--context", str(context), "--threads", str(count_cores()), "--slots", str(slots)]
    with TemporaryDirectory(prefix="tuneproof-llama-cpp-") as folder:
        log = Path(folder, "server.log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            yield LlamaCpp(_read_address(process, log), log)
        finally:
            _stop(process)


def _read_address(process: "subprocess.Popen[str]", log: Path) -> str:
    for line in process.stdout or ():  # ends when the process ends
        if line.startswith("http://"):
            return line.strip()
    raise UserError(f"llama.cpp does not load the file{LlamaCpp('', log).tail()}")


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
