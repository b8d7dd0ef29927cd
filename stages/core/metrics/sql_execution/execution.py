"""Run a query in an SQLite database in memory, with limits on what it may do, take and return.

The number of steps decides first, because it is the same on every machine.
"""

import re
import sqlite3
import time
from contextlib import closing, suppress
from itertools import count

from stages.core.metrics.sql_execution.rows import Rows, Tables, kind
from stages.core.metrics.sql_execution.schema import NESTED, Schema

STEPS = 100_000_000  # of SQLite's virtual machine, 0.5 to 1 second for most queries
SECONDS = 2.0  # of the processor, for queries whose steps are long
ROWS = 10_000
CHARACTERS = 10_000_000
HEAP = 250_000_000  # bytes of SQLite
INSIDE = re.compile(rf"'[^']*'|{NESTED}")

_STRIDE = 1000  # steps between two looks at their number
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: CHARACTERS // 100,
    # The time of a match grows with the product of both lengths, and nothing interrupts it.
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
}
_FAILURES = (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError)
_NO_GRAMMAR = re.compile(
    r"syntax error|incomplete input|unrecognized token|one statement|overflow|too large|too big"
)
_MAY = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
# Functions whose result depends on their arguments alone (dates may mean today) and whose time is
# bounded by the length of texts. `printf`, `zeroblob` and `randomblob` make long texts from short
# ones, and `random` gives another score in every run.
_FUNCTIONS = """
https://www.sqlite.org/lang_corefunc.html
    abs char coalesce concat concat_ws glob hex ifnull iif if instr length like likelihood likely
    lower ltrim max min nullif octet_length quote replace round rtrim sign soundex substr
    substring trim typeof unhex unicode unlikely upper
lang_aggfunc.html and windowfunctions.html
    avg count group_concat median string_agg sum total cume_dist dense_rank first_value lag
    last_value lead nth_value ntile percent_rank rank row_number
lang_datefunc.html
    current_date current_time current_timestamp date datetime julianday strftime time timediff
    unixepoch
lang_mathfunc.html
    acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10
    log2 mod pi pow power radians sin sinh sqrt tan tanh trunc
json1.html
    -> ->> json json_array json_array_length json_extract json_group_array json_group_object
    json_insert json_object json_patch json_quote json_remove json_replace json_set json_type
    json_valid
"""
FUNCTIONS = frozenset(
    re.findall(r"(?<!\S)[a-z0-9_>-]+(?!\S)", re.sub(r"(?m)^\S.*", "", _FUNCTIONS))
)


def run(schema: Schema, tables: Tables, query: str) -> Rows | None:
    """Run a query on tables; None if it fails, writes, or needs too many steps or too much space.

    The limits hold before the names of the tables, which are texts of strangers too, are read.
    """
    result = Rows()
    size = 0
    with closing(_connect()) as connection, suppress(*_FAILURES):
        for table, rows in tables.items():
            columns = [
                f"{_quote(name)} {kind(name, declared)}" for name, declared in schema[table].items()
            ]
            connection.execute(f"CREATE TABLE {_quote(table)} ({', '.join(columns)})")
            places = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {_quote(table)} VALUES ({places})", rows)  # noqa: S608
        connection.execute("PRAGMA query_only = ON")
        connection.set_authorizer(_authorize)
        for row in connection.execute(query):
            result.append(
                tuple(round(cell, 6) if isinstance(cell, float) else cell for cell in row)
            )
            size += sum(map(len, map(str, row)))
            if len(result) > ROWS or size > CHARACTERS:
                return None
        return result
    return None


def parses(query: str) -> bool:
    """Check whether a text is one statement in SQLite's grammar, whatever tables exist."""
    # SQLite stops at the first missing table and would not see a second statement.
    if ";" in INSIDE.sub("", query).rstrip("; \t\n"):
        return False
    with closing(_connect()) as connection:
        # SQLite carries out some pragmas while it parses them, such as the limit of the heap.
        connection.set_authorizer(_refuse_pragmas)
        try:
            connection.execute(f"EXPLAIN {query}")
        except _FAILURES as error:
            return (
                isinstance(error, sqlite3.OperationalError)
                and _NO_GRAMMAR.search(str(error)) is None
            )
    return True


def _connect() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    # The heap limit holds for the process. Some queries grow while they are parsed.
    connection.execute(f"PRAGMA hard_heap_limit = {HEAP}")
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    strides = count(1)
    end = time.process_time() + SECONDS
    connection.set_progress_handler(
        lambda: next(strides) > STEPS // _STRIDE or time.process_time() > end, _STRIDE
    )
    return connection


def _authorize(action: int, _: str | None, name: str | None, *more: str | None) -> int:
    """Allow a query to read tables and to call known functions."""
    allowed = action in _MAY or (action == sqlite3.SQLITE_FUNCTION and name in FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _refuse_pragmas(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_PRAGMA else sqlite3.SQLITE_OK


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
