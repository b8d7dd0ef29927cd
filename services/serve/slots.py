"""What a request holds until its response has been sent or its client has left."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from services.serve.admission import Admission
from services.serve.errors import ClientLeftError
from services.serve.loading import Served

Found = TypeVar("Found")


class Slots:
    """A version, the places of the request's answers, and what is to be closed at its end."""

    def __init__(self, served: Served, admission: Admission, closing: AsyncExitStack) -> None:
        self.served = served
        self.closing = closing
        self._admission = admission

    def take(self, count: int) -> None:
        """Count the answers of the request until its end.

        Raises:
            ApiError: The server has too many.
        """
        self._admission.take(count)
        self.closing.callback(self._admission.release, count)


async def hold(request: Request) -> AsyncGenerator[Slots, None]:
    """Hold the current version for a request. FastAPI ends this after the response."""
    server = request.app.state.server
    async with AsyncExitStack() as closing:
        served = closing.enter_context(server.follower.borrow())
        yield Slots(served, server.admission, closing)


Held = Annotated[Slots, Depends(hold)]


async def until_left(request: Request, work: Coroutine[Any, Any, Found]) -> Found:
    """Wait for something, and cancel it when the client leaves.

    Raises:
        ClientLeftError: The client has left.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_wait_until_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeftError
    finally:
        leaving.cancel()
        task.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
