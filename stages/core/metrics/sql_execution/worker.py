"""Answer questions about queries of strangers, in a child process with limits of its own.

The child reads one JSON object a line and writes one or two JSON values a line:

- `{"parse": text}`: whether the text is one statement of SQLite's grammar.
- `{"question": …, "wanted": …, "found": …}`: whether there are databases on which the reference
  runs, and if so, whether both queries return the same rows on them.
"""

import json
import math
import signal
import sys
from typing import Any

from stages.core.metrics.sql_execution.comparison import Suite
from stages.core.metrics.sql_execution.execution import parses

SECONDS = 10
"""Seconds of a question, for what neither the steps nor the heap of SQLite bound."""
NO_MEMORY = 3
"""The status with which the child exits if a question needs more memory."""
MEMORY = 1_000_000_000
"""Bytes of the address space. Python takes some 30 million, SQLite at most a quarter of it."""


def main() -> None:
    """Answer until the parent closes the pipe, or until there is no memory left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    try:
        for line in sys.stdin:
            limit_resources()
            _answer(json.loads(line))
    except MemoryError:
        sys.exit(NO_MEMORY)


def limit_resources() -> None:
    """Limit the address space and the processor time until the next question.

    Windows has no such limits, and macOS accepts none for the address space. The limits of SQLite
    and the parent's limit of time hold everywhere.
    """
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime) + SECONDS
    for kind, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, seconds)):
        most = resource.getrlimit(kind)[1]
        try:
            resource.setrlimit(kind, (limit if most < 0 else min(limit, most), most))
        except (ValueError, OSError):
            continue


def _answer(task: dict[str, Any]) -> None:
    if "parse" in task:
        return _reply(parses(task["parse"]))
    suite = Suite(task["question"], task["wanted"], task["found"])
    _reply(bool(suite.databases))
    if suite.databases:
        _reply(suite.match(task["found"]))


def _reply(value: bool) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()
