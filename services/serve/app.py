"""The application: what its routes share, and how it starts and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.serve.admission import Admission, Guard
from services.serve.errors import add_handlers
from services.serve.following import Follower
from services.serve.metrics import ServerMetrics
from services.serve.request_log import RequestLog
from services.serve.routes import router
from services.serve.settings import ServeConfig

PROBLEM = {"description": "An error in OpenAI's shape, {error: {message, type, param, code}}"}


@dataclass(frozen=True, slots=True)
class State:
    """What the routes share."""

    follower: Follower
    settings: ServeConfig
    metrics: ServerMetrics
    admission: Admission
    log: RequestLog | None


def create_app(
    follower: Follower, settings: ServeConfig, keys: list[bytes], metrics: ServerMetrics
) -> ASGIApp:
    """Build the application.

    Args:
        follower: The version that is served.
        settings: The settings of the server.
        keys: The hashes of the keys. Without any, all may ask.
        metrics: The metrics of the server.

    Raises:
        UserError: The file for requests cannot be written.
    """
    log = RequestLog(Path(settings.log_requests)) if settings.log_requests else None

    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncIterator[None]:
        following = None
        if "@" in settings.model:  # a number does not move
            following = asyncio.create_task(follower.follow(settings.poll_seconds))
        yield
        follower.ended = True  # a version that is being loaded is stopped
        if following:
            following.cancel()
        if log:
            log.close()

    # Its pages for people load scripts from outside.
    app = FastAPI(title="Tuneproof", lifespan=run, docs_url=None, redoc_url=None)
    app.state.server = State(follower, settings, metrics, Admission(settings, metrics), log)
    app.include_router(router, responses={"4XX": PROBLEM, "5XX": PROBLEM})
    add_handlers(app)
    return Guard(app, keys, settings, metrics)
