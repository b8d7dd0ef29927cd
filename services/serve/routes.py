"""The routes of the server."""

from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST

from services.serve.chat import DONE, Chat, Piece
from services.serve.classifier import Classifier
from services.serve.engine import EngineError, OverloadedError
from services.serve.errors import ApiError
from services.serve.loading import Served
from services.serve.models import ChatModel
from services.serve.requests import ChatRequest, ClassifyRequest
from services.serve.settings import ServeConfig
from services.serve.slots import Held, until_left

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Say whether requests are answered, by which version, and which one was not taken."""
    follower = request.app.state.server.follower
    served = follower.current
    ready = served.model.is_alive()
    refused = follower.refused
    content = {
        "ready": ready,
        "model": request.app.state.server.settings.reference,
        "version": served.version.number,
        "aliases": list(served.version.aliases),
        "files_sha256": served.sha256,
        "refused": refused and {"version": refused.version, "reason": refused.reason},
        "registry_error": follower.registry_error,
    }
    return JSONResponse(content, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(request.app.state.server.metrics.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models")
async def list_models(slots: Held, request: Request) -> dict[str, Any]:
    """List the names under which the model can be asked."""
    settings = request.app.state.server.settings
    names = list_names(slots.served, settings)
    return {"object": "list", "data": [_describe_model(name, slots.served) for name in names]}


@router.get("/v1/models/{name:path}")
async def get_model(name: str, slots: Held, request: Request) -> dict[str, Any]:
    """Describe the model."""
    check_model(name, slots.served, request.app.state.server.settings)
    return _describe_model(name, slots.served)


@router.delete("/v1/models/{name:path}")
async def delete_model(name: str, slots: Held, request: Request) -> None:
    """Refuse to delete a model, which is done in the registry."""
    check_model(name, slots.served, request.app.state.server.settings)
    raise ApiError(403, "A server deletes no models. Use MLflow.", "forbidden", "model")


@router.post("/v1/chat/completions")
async def chat(body: ChatRequest, slots: Held, request: Request) -> Response:
    """Answer a chat."""
    server = request.app.state.server
    check_model(body.model, slots.served, server.settings)
    model = slots.served.model
    if not isinstance(model, ChatModel):
        said = "This model labels texts. Send them to /v1/classify."
        raise ApiError(400, said, "unsupported_model", "model")
    asked = Chat(slots.served, model, body, server.metrics, server.log)
    slots.take(body.n)
    try:
        await until_left(request, asked.prepare())
        pieces = asked.write()
        slots.closing.push_async_callback(pieces.aclose)
        first = await until_left(request, anext(pieces))
        if body.stream:
            return StreamingResponse(_stream(asked, first, pieces), media_type="text/event-stream")
        return JSONResponse(await until_left(request, asked.complete(pieces)))
    except EngineError as error:
        raise _explain(error) from None


async def _stream(
    asked: Chat, first: Piece, pieces: AsyncGenerator[Piece, None]
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream. An error that comes too late for a status is an event too."""
    try:
        async for event in asked.stream(first, pieces):
            yield event
    except EngineError as error:
        yield b"data: " + orjson.dumps(_explain(error).body) + b"\n\n" + DONE


@router.post("/v1/classify")
async def classify(body: ClassifyRequest, slots: Held, request: Request) -> dict[str, Any]:
    """Label texts, if the model is a classifier."""
    server = request.app.state.server
    check_model(body.model, slots.served, server.settings)
    model = slots.served.model
    if not isinstance(model, Classifier):
        said = "This model answers chats. Send them to /v1/chat/completions."
        raise ApiError(400, said, "unsupported_model", "model")
    slots.take(1)
    found = await until_left(request, model.classify(body.input))
    tokens = sum(each.pop("tokens") for each in found)
    server.metrics.prompt_tokens.inc(tokens)
    data = [{"object": "classification", "index": i, **each} for i, each in enumerate(found)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": slots.served.name, "data": data, "usage": usage}


@router.post("/v1/embeddings")
async def embed() -> None:
    """Refuse, because no training method makes a model that embeds."""
    said = "This model embeds no texts. Tuneproof trains models that answer or label."
    raise ApiError(400, said, "unsupported_model", "model")


def list_names(served: Served, settings: ServeConfig) -> list[str]:
    """List the names of the served version, the one of the command line first."""
    return list(dict.fromkeys([settings.reference, served.version.name, served.name]))


def check_model(name: str, served: Served, settings: ServeConfig) -> None:
    """Check that a request names the version that is served.

    Raises:
        ApiError: It names another.
    """
    names = list_names(served, settings)
    if name not in names:
        said = f"The model '{name[:200]}' does not exist here. There are: {', '.join(names)}."
        raise ApiError(404, said, "model_not_found", "model")


def _describe_model(name: str, served: Served) -> dict[str, Any]:
    made = served.version.created // 1000
    return {"id": name, "object": "model", "created": made, "owned_by": "tuneproof"}


def _explain(error: EngineError) -> ApiError:
    if isinstance(error, OverloadedError):
        said = "The server has too many requests. Ask again in a second."
        return ApiError(429, said, "rate_limit_exceeded", None, {"retry-after": "1"})
    said = "The model cannot answer now. Ask again in a moment."
    return ApiError(503, said, "engine_failed", None, {"retry-after": "5"})
