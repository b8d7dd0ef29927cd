"""Answers by a `vllm serve` process on a GPU, which only this process can reach.

Prompts and answers are exchanged as token ids, so texts are encoded and decoded as they were
evaluated. The fields are those of vLLM 0.33.0, compared with its source. No GPU was at hand, so the
tests run a small server that speaks the same protocol.
"""

import shlex
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import orjson
from omegaconf import OmegaConf

from services.serve.engine import EngineError, OverloadedError, Sampling, Step
from services.serve.settings import ServeConfig
from stages.core.config.model import VllmEngineConfig
from stages.core.environment.repository import repository_root
from stages.core.inference.engine import find_program
from stages.core.inference.vllm_server import NAME, REQUEST_SECONDS, Server

DATA = "data: "


def start_vllm(model: list[str], limit: int, ends: set[int], settings: ServeConfig) -> "VllmEngine":
    """Start vLLM with the command of `conf/engine/vllm.yaml`.

    Args:
        model: The folder of the model, and arguments about its files.
        limit: The most tokens of a prompt with its answer.
        ends: The tokens that end an answer.
        settings: The settings of the server.

    Raises:
        UserError: It is not installed, or it does not start.
    """
    written = OmegaConf.load(repository_root() / "conf" / "engine" / "vllm.yaml")
    config = VllmEngineConfig.model_validate(OmegaConf.to_container(written))
    arguments = ["--max-model-len", str(limit), "--max-num-seqs", str(settings.max_running)]
    # As in the evaluation, the model's end tokens apply, but not its penalties.
    arguments += ["--enable-prefix-caching", "--generation-config", "vllm", *config.args]
    command = [*find_program(config), *model, *arguments, *shlex.split(settings.vllm_args)]
    return VllmEngine(command, config.startup_timeout, ends)


class VllmEngine:
    """A model in a vLLM server, which is a child of this process."""

    draws = True
    seeds = True

    def __init__(self, command: list[str], startup_timeout: float, ends: set[int]) -> None:
        """Start the server and wait until it is ready.

        Args:
            command: The command, with all arguments but the address.
            startup_timeout: How many seconds it may take.
            ends: The tokens that end an answer.

        Raises:
            UserError: It exited, or was not ready in time. The message has the end of its log.
        """
        self._ends = sorted(ends)
        self._folder = TemporaryDirectory(prefix="tuneproof-serve-")
        self._server = Server(command, Path(self._folder.name, "server.log"))
        try:
            self._server.wait(startup_timeout)
        except BaseException:
            self.stop()
            raise
        # A proxy of the environment must not see prompts, so it is ignored.
        self._client = httpx2.AsyncClient(
            base_url=self._server.url, timeout=REQUEST_SECONDS, trust_env=False
        )

    async def generate(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[Step, None]:
        """Answer a prompt as `Engine.generate` describes.

        Raises:
            OverloadedError: The queue of vLLM is full.
        """
        body = {
            "model": NAME,
            "prompt": prompt,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stream": True,
            "return_token_ids": True,  # a vLLM extension, as the next one
            "stop_token_ids": self._ends,
        }
        ids: list[int] = []
        try:
            async with self._client.stream("POST", "/v1/completions", json=body) as response:
                _check(response.status_code)
                async for line in response.aiter_lines():
                    if line.startswith(DATA) and line != DATA + "[DONE]":
                        choice = _read(line)
                        ids += choice.get("token_ids") or []
                        finished = choice.get("finish_reason") is not None
                        yield Step(list(ids), finished)
                        if finished:
                            return
        except httpx2.HTTPError as error:
            raise EngineError(f"vLLM stopped responding ({type(error).__name__})") from None
        raise EngineError("vLLM ended an answer without its reason")

    def is_alive(self) -> bool:
        """Return whether the server's process runs."""
        return self._server.is_running()

    def stop(self) -> None:
        """Stop the server as `Engine.stop` describes."""
        self._server.close()
        self._folder.cleanup()


def _check(status: int) -> None:
    if status == HTTPStatus.SERVICE_UNAVAILABLE:  # vLLM's QueueOverflowError
        raise OverloadedError("the queue of vLLM is full")
    if status != HTTPStatus.OK:
        raise EngineError(f"vLLM answered with HTTP status {status}")


def _read(line: str) -> dict[str, Any]:
    found = orjson.loads(line.removeprefix(DATA))
    if "error" in found:
        raise EngineError("vLLM could not finish the answer")
    choice: dict[str, Any] = found["choices"][0]
    return choice
