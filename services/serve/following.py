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
"""How long a version that was not taken is left alone, if the alias does not move. The time doubles
with each try, because a registry on a server sends all files again."""
LONGEST = 3_600.0  # seconds between two tries


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that was not taken."""

    version: str
    reason: str
    again: float
    """When to try again, by the monotonic clock."""
    seconds: float
    """How long that is after the last try."""


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
        self._incoming: Served | None = None
        self.ended = False
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
            try:
                await self.look()
            except Exception as error:  # such as that of an engine that does not stop
                log.error("A look at the alias failed: %s", describe_place(error))

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
            await asyncio.to_thread(unused.pop().stop)
            # A model and its engine refer to each other, and have gigabytes.
            await asyncio.to_thread(gc.collect)
        self._show()

    def stop(self) -> None:
        """Stop all versions that are loaded, and the one that is being loaded as soon as it is."""
        self.ended = True
        for served in (self.current, self._incoming, *self._retired):
            if served:
                served.stop()

    def _wants(self, number: str) -> bool:
        if number == self.current.version.number and self.current.model.is_alive():
            self.refused = None
            return False
        refused = self.refused
        return not (refused and refused.version == number and monotonic() < refused.again)

    def _load_next(self) -> Served:
        """Load the version of the alias. If the server ends meanwhile, nobody takes it."""
        self._incoming = self._load()
        if self.ended:
            self._incoming.stop()
        return self._incoming

    async def _take(self, number: str) -> None:
        try:
            found = await asyncio.to_thread(self._load_next)
        except Exception as error:  # the files of a version may raise anything
            before = self.refused
            again = before and before.version == number
            seconds = min(before.seconds * 2, LONGEST) if before and again else RETRY_SECONDS
            self.refused = Refused(number, _say(error), monotonic() + seconds, seconds)
            log.error("Version %s is not taken: %s", number, self.refused.reason)
            if not isinstance(error, UserError):
                log.error("%s", describe_place(error))
            return
        log.info("Version %s takes over from %s.", found.name, self.current.name)
        self._retired.append(self.current)
        self.current = found
        self._incoming = None
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
