"""Start the child process that runs queries of strangers, and end it if it takes too long."""

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from stages.core.metrics.sql_execution.worker import NO_MEMORY

ROOT = Path(__file__).parents[4]
GRACE = 1.0  # seconds to end by itself
WALL = 20.0
"""Seconds to wait for an answer, twice the processor time that the child may take for it."""
# The child is a program of its own and no fork, so it has no threads or locks of torch. It imports
# the standard library and modules of this folder only. `-I` keeps it from reading the environment.
_CODE = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    "from stages.core.metrics.sql_execution.worker import main; main()"
)


class Sandbox:
    """A child process that answers one question after the other.

    It starts with the first question, and again after it was ended.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0  # a fork of this process starts a child of its own

    def parses(self, query: str) -> bool:
        """Check whether a text is one statement in SQLite's grammar, whatever tables exist."""
        return self._ask({"parse": query}, most=1) == [True]

    def compare(self, question: str, wanted: str, found: str) -> bool | None:
        """Check whether two queries return the same rows from databases made for the question.

        Returns:
            None if there are no such databases: the question names no table, or the reference does
            not run within the limits.
        """
        answers = self._ask({"question": question, "wanted": wanted, "found": found}, most=2)
        return answers[1:] == [True] if answers[:1] == [True] else None

    def _ask(self, task: dict[str, Any], most: int) -> list[bool]:
        """Send a question and read its answers, which end with the first that is false.

        Returns:
            The answers. The last one is missing if the child reached a limit.
        """
        child = self._get()
        late = threading.Event()
        timer = threading.Timer(WALL, _kill, (child, late))
        timer.start()
        try:
            answers = list(_exchange(child, task, most))
        except BaseException:  # half an answer may be left in the pipe
            self._end()
            raise
        finally:
            timer.cancel()
            timer.join()
        complete = answers and (len(answers) == most or not answers[-1])
        if late.is_set() or not complete:
            status = self._end()
            if not complete and status > 0 and status != NO_MEMORY and not late.is_set():
                raise RuntimeError("the process that runs SQL failed, see its traceback above")
        return answers

    def close(self) -> None:
        """End the child. Processes that were forked from this one do nothing."""
        if self._child and self._owner == os.getpid():
            self._end()

    def _get(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._owner != os.getpid():
            command = [sys.executable, "-I", "-c", _CODE]
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._owner = os.getpid()
        return self._child

    def _end(self) -> int:
        """End the child and return its status."""
        child = self._child
        self._child = None
        if child is None:
            return 0
        # `communicate` closes the pipe, at which the child ends, and ignores a broken one.
        try:
            child.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
        return child.returncode


def _kill(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    child.kill()


SANDBOX = Sandbox()
atexit.register(SANDBOX.close)


def _exchange(child: subprocess.Popen[bytes], task: dict[str, Any], most: int) -> Iterator[bool]:
    """Send a question and yield the answers until one is false, or until the child has ended."""
    asking = cast(IO[bytes], child.stdin)
    answering = cast(IO[bytes], child.stdout)
    try:
        asking.write(f"{json.dumps(task)}\n".encode())
        asking.flush()
    except BrokenPipeError:
        return
    for _ in range(most):
        line = answering.readline()
        if not line.endswith(b"\n"):
            return
        answer = json.loads(line)
        yield answer
        if not answer:
            return
