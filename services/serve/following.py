"""Follow an alias: load the version that it moves to, and let it take over between requests."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from services.serve.errors import describe_place
from services.serve.loading import Served
from services.serve.metrics import ServerMetrics
from stages.core.errors import UserError, hide_secrets, one_line

log = logging.getLogger(__name__)
RETRY_SECONDS = 60.0
"""How long a version that was not taken is left alone, if the alias does not move."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that was not taken."""

    version: str
    reason: str
    at: float
    """When, by the monotonic clock."""


class Follower:
    """The version that is served, and the look-out for the next one."""

    def __init__(
        self,
        served: Served,
        find_number: Callable[[], str],
        load: Callable[[], Served],
        metrics: ServerMetrics,
    ) -> None:
        """Take the loaded version and the functions that find and load the one of the alias.

        The functions run in a thread. They may raise anything.
        """
        self.current = served
        self.refused: Refused | None = None
        self.registry_error: str | None = None
        self._find_number = find_number
        self._load = load
        self._metrics = metrics
        self._retired: list[Served] = []
        self._show()

    @contextmanager
    def borrow(self) -> Iterator[Served]:
        """Use the current version for one request, which keeps it until its end."""
        served = self.current
        served.in_use += 1
        try:
            yield served
        finally:
            served.in_use -= 1

    async def follow(self, seconds: float) -> None:
        """Look for a new version again and again."""
        while True:
            await asyncio.sleep(seconds)
            await self.look()

    async def look(self) -> None:
        """Look once whether the alias has moved or the engine has ended, and stop what is unused."""
        try:
            number = await asyncio.to_thread(self._find_number)
        except Exception as error:  # a server or a database may fail in any way
            self._metrics.registry_errors.inc()
            self.registry_error = _say(error)
        else:
            self.registry_error = None
            if self._wants(number):
                await self._take(number)
        unused = [each for each in self._retired if not each.in_use]
        self._retired = [each for each in self._retired if each.in_use]
        while unused:
            await asyncio.to_thread(unused.pop().model.stop)
            # A model and its engine refer to each other, and have gigabytes.
            await asyncio.to_thread(gc.collect)
        self._show()

    def stop(self) -> None:
        """Stop all versions that are loaded."""
        for served in [self.current, *self._retired]:
            served.model.stop()

    def _wants(self, number: str) -> bool:
        if number == self.current.version.number and self.current.model.is_alive():
            self.refused = None
            return False
        waits = self.refused and self.refused.version == number
        return not (waits and self.refused and monotonic() < self.refused.at + RETRY_SECONDS)

    async def _take(self, number: str) -> None:
        try:
            found = await asyncio.to_thread(self._load)
        except Exception as error:  # the files of a version may raise anything
            self.refused = Refused(number, _say(error), monotonic())
            log.error("Version %s is not taken: %s", number, self.refused.reason)
            if not isinstance(error, UserError):
                log.error("%s", describe_place(error))
            return
        log.info("Version %s takes over from %s.", found.name, self.current.name)
        self._retired.append(self.current)
        self.current = found
        self.refused = None
        self._metrics.moves.inc()

    def _show(self) -> None:
        self._metrics.ready.set(self.current.model.is_alive())
        self._metrics.version.set(int(self.current.version.number))
        self._metrics.refused_version.set(int(self.refused.version) if self.refused else 0)


def _say(error: Exception) -> str:
    """Say what went wrong, for people who may not see the log of the server."""
    said = one_line(hide_secrets(str(error)))[:500]
    return said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"
