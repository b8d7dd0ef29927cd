"""Answers to chats, at once or in pieces, in the form of OpenAI's API."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter, time
from typing import Any
from uuid import uuid4

import orjson

from services.serve.engine import Sampling
from services.serve.errors import unsupported
from services.serve.loading import Served
from services.serve.metrics import ServerMetrics
from services.serve.models import ChatModel
from services.serve.request_log import RequestLog
from services.serve.requests import ChatRequest

log = logging.getLogger(__name__)
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """What has been added to one of the answers of a request."""

    index: int
    text: str
    reason: str | None
    """Why the answer has ended: `stop` or `length`. None if it goes on."""
    tokens: int
    """Tokens of the answer so far, with the end token."""


class Chat:
    """A request for answers to one chat, from one version of the model."""

    def __init__(
        self,
        served: Served,
        model: ChatModel,
        request: ChatRequest,
        metrics: ServerMetrics,
        log: RequestLog | None,
    ) -> None:
        """Check what only the engine knows.

        Raises:
            ApiError: The engine cannot do what the request asks for.
        """
        if request.temperature and not model.engine.draws:
            raise unsupported("temperature", "This model answers with temperature 0 alone.")
        if request.temperature and request.seed is not None and not model.engine.seeds:
            why = "Answers that share a batch are drawn with one generator. Use temperature 0."
            raise unsupported("seed", why)
        self._served = served
        self._model = model
        self._request = request
        self._metrics = metrics
        self._log = log
        self._texts = [""] * request.n
        self._reasons: list[str | None] = [None] * request.n
        self._tokens = [0] * request.n
        self._prompt: list[int] = []
        self._sampling = Sampling(1)
        self._head = {
            "id": f"chatcmpl-{uuid4().hex}",
            "created": int(time()),
            "model": served.name,
            "system_fingerprint": f"fp_{served.sha256[:12]}",
        }

    async def prepare(self) -> None:
        """Encode the messages.

        Raises:
            ApiError: They do not fit, or the chat template refuses them.
        """
        request = self._request
        self._prompt = await self._model.encode(request.get_messages())
        asked = request.max_completion_tokens or request.max_tokens
        limit = self._model.get_max_new_tokens(self._prompt, asked)
        self._sampling = Sampling(
            limit,
            request.temperature,
            request.top_p,
            request.seed,
            streaming=request.stream or bool(request.stop),
        )

    async def complete(self, pieces: AsyncIterator[Piece]) -> dict[str, Any]:
        """Return the finished answers, once the pieces that `write` yields have come."""
        async for _ in pieces:
            pass
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": reason,
            }
            for i, (text, reason) in enumerate(zip(self._texts, self._reasons, strict=True))
        ]
        usage = self._count()
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": usage}

    async def stream(
        self, first: Piece, pieces: AsyncIterator[Piece]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream from the pieces that `write` yields.

        The first piece has been awaited before, because an error can then still have a status.
        """
        for i in range(self._request.n):
            yield self._event(i, {"role": "assistant", "content": ""}, None)
        for event in self._describe(first):
            yield event
        async for piece in pieces:
            for event in self._describe(piece):
                yield event
        options = self._request.stream_options
        if options and options.include_usage:
            yield self._pack([], usage=self._count())
        yield DONE

    async def write(self) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of all answers as they are written. Closing this cancels them."""
        started = perf_counter()
        streams = [self._answer(i) for i in range(self._request.n)]
        first = True
        try:
            async with aclosing(merge(streams)) as pieces:
                async for piece in pieces:
                    if first:
                        self._metrics.first_token.observe(perf_counter() - started)
                        first = False
                    self._texts[piece.index] += piece.text
                    self._reasons[piece.index] = piece.reason
                    self._tokens[piece.index] = piece.tokens
                    yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self._metrics.cancelled.inc()
            raise
        self._metrics.prompt_tokens.inc(len(self._prompt))
        self._metrics.completion_tokens.inc(sum(self._tokens))
        self._write_log()

    async def _answer(self, index: int) -> AsyncGenerator[Piece, None]:
        reader = self._model.read(self._prompt, self._request.stop)
        steps = self._model.engine.generate(self._prompt, self._sampling)
        async with aclosing(steps):
            async for ids, finished in steps:
                text = reader.update(ids, finished)
                reason = None
                if reader.stopped or (finished and ids[-1] in self._model.ends):
                    reason = "stop"
                elif finished:
                    reason = "length"
                yield Piece(index, text, reason, len(ids))
                if reason:
                    return

    def _count(self) -> dict[str, Any]:
        prompt = len(self._prompt)
        answers = sum(self._tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answers,
            "total_tokens": prompt + answers,
        }

    def _describe(self, piece: Piece) -> list[bytes]:
        text = [self._event(piece.index, {"content": piece.text}, None)] if piece.text else []
        end = [self._event(piece.index, {}, piece.reason)] if piece.reason else []
        return text + end

    def _event(self, index: int, delta: dict[str, str], reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._pack([choice])

    def _pack(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        options = self._request.stream_options
        shown = {"usage": usage} if options and options.include_usage else {}
        return b"data: " + orjson.dumps(chunk | shown) + b"\n\n"

    def _write_log(self) -> None:
        for text, reason in zip(self._texts, self._reasons, strict=True):
            if self._log:
                meta = {"version": self._served.name, "finish_reason": reason}
                try:
                    self._log.write(self._request.get_messages(), text, meta)
                except OSError as error:  # the answer is there, and a full disk must not take it
                    self._metrics.log_errors.inc()
                    log.error("log_requests: %s", error.strerror)


async def merge(streams: list[AsyncGenerator[Piece, None]]) -> AsyncGenerator[Piece, None]:
    """Yield what several generators yield, as it comes. Closing this closes all of them."""
    found: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue()

    async def pump(stream: AsyncGenerator[Piece, None]) -> None:
        try:
            async with aclosing(stream):
                async for piece in stream:
                    found.put_nowait(piece)
            found.put_nowait(None)
        except Exception as error:
            found.put_nowait(error)

    tasks = [asyncio.create_task(pump(stream)) for stream in streams]
    try:
        going = len(tasks)
        while going:
            piece = await found.get()
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                going -= 1
            else:
                yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
