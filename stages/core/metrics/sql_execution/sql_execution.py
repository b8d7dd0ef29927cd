"""Compute the share of rows whose SQL query returns what the query of the reference returns."""

import random
import re
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import accumulate
from typing import Any

from stages.core.metrics.row_metric import RowMetric

DATABASES = 5
ATTEMPTS = 24
SECONDS = 1.0
ROWS = 10_000
CHARACTERS = 10_000_000
HEAP = 250_000_000
Schema = dict[str, dict[str, str]]  # table to column to declared type
Result = list[tuple[Any, ...]]
Tables = dict[str, Result]

_NAME = r"""(?:"[^"]+"|`[^`]+`|\[[^\]]+\]|[\w.]+)"""
_NESTED = r"\([^()]*\)"
for _ in range(4):
    _NESTED = rf"\((?:[^()']|'[^']*'|{_NESTED})*\)"
_CREATE = re.compile(
    r"(?is)\bCREATE\s+(?:TEMP\w*\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    rf"({_NAME}(?:\.{_NAME})?)\s*({_NESTED})"
)
_COLUMN = re.compile(rf"""\s*({_NAME})((?:"[^"]*"|`[^`]*`|'[^']*'|{_NESTED}|[^,])*),?""")
_NO_COLUMN = re.compile(
    r"(?i)\s*(?:(PRIMARY|FOREIGN)\s+KEY|CONSTRAINT|CHECK|(UNIQUE|(FULLTEXT )?KEY|INDEX)[^()]*\()"
)
_INSIDE = re.compile(rf"'[^']*'|{_NESTED}")
_TYPED = re.compile(r"(?m)^\s*Table:? +(\S+?)\. +Columns: +(.+)$")
_LISTED = re.compile(r"(?m)^\s*Table +(\S+?), *columns *= *\[(.*)\]")
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|-?\b\d+(?:\.\d+)?\b|\w+""")
_KINDS = {
    "date": "date|time",
    "text": "char|text|string|clob|enum",
    "real": "real|floa|doub|dec",
    "bool": "bool",
}
_FAILURES = (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError)
_NO_GRAMMAR = re.compile(
    r"syntax error|incomplete input|unrecognized token|one statement|overflow|too large|too big"
)
_MAY = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


class SqlExecution(RowMetric):
    """Scores 1 if prediction and reference return the same rows from generated SQLite databases.

    Otherwise it scores 0. The databases follow the test suites of Zhong et al. (2020). The metric
    reads the tables from the messages before the answer, in the form `CREATE TABLE …`,
    `Table: t. Columns: a (number), b (text)` or `Table t, columns = [*,a,b]`. It fills them with
    random values. These include the literals of both queries, each in the column that precedes it
    in the query. The queries must agree on up to five databases, if possible ones on which the
    reference finds something and leaves only the order of the rows open.

    Rows are compared as multisets, and in order as far as an `ORDER BY` of the reference determines
    it. Column names do not count, and numbers are rounded to 6 decimals. A query may only read,
    without recursion, for at most one second and 10,000 rows. If the reference does not run or no
    table is found, the texts must be equal apart from case and white space. Equal queries always
    match.
    """

    advice = "fix the empty targets, or choose exact_match"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The question and the reference of each row that was scored.
        self.seen: set[tuple[str, str]] = set()
        self.compared_as_text: set[tuple[str, str]] = set()

    def prepare(self, references: Sequence[str], **options: Any) -> None:
        super().prepare(references, **options)
        self.bare = all(map(parses, references))

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = bare(prediction)
        wanted = bare(reference)
        question = "\n".join(
            str(message.get("content") or "") for message in record.get("messages", [])[:-1]
        )
        self.seen.add((question, reference))
        if found == wanted or not found:
            return float(found == wanted), 1.0
        schema = read_schema(question)
        suite = databases(schema, question, wanted, found) if schema else []
        if not suite:
            self.compared_as_text.add((question, reference))
            return float(found.casefold().split() == wanted.casefold().split()), 1.0
        ordered = bool(re.search(r"(?i)\border\s+by\b", _INSIDE.sub("", wanted)))
        return float(
            all(agree(run(schema, tables, found), *given, ordered) for tables, given in suite)
        ), 1.0

    def well_formed(self, prediction: str) -> bool:
        """Check whether SQLite can parse the whole answer.

        If it cannot parse every target, this checks only the query that the metric reads from the
        answer.
        """
        return parses(prediction if self.bare else bare(prediction))

    def metadata(self) -> dict[str, Any]:
        """Describe the metric and count the rows in which an answer was compared as text.

        That happens if the reference does not run or no table is found.
        """
        return {
            **super().metadata(),
            "rows": len(self.seen),
            "rows_compared_as_text": len(self.compared_as_text),
        }


def bare(text: str) -> str:
    """Strip a code fence, a leading label (`SQL: `) and a final semicolon from a query."""
    text = re.sub(r"(?s)^.*?```(?i:\w*sql\w*)?(.*?)(?:```.*|$)", r"\1", text)
    return re.sub(r"(?i)^\w+:\s*(?=select\b|with\b)", "", text.strip()).rstrip("; \n\t")


def read_schema(text: str) -> Schema:
    """Read tables, their columns and the columns' types, all in lower case."""
    found = {}
    for table, body in _CREATE.findall(re.sub(r"--[^\n]*", "", text)):
        columns = [
            column
            for column in _COLUMN.findall(body[1:-1])
            if not _NO_COLUMN.match("".join(column))
        ]
        found[table] = [(name.strip('"`[]'), rest.strip()) for name, rest in columns]
    found |= {
        table: re.findall(r"(\S.*?) \((\w+)\)(?:, |$)", body.strip())
        for table, body in _TYPED.findall(text)
    }
    for table, body in _LISTED.findall(text):
        found[table] = [
            (name.strip(), "") for name in body.split(",") if name.strip() not in ("*", "")
        ]
    plain = {
        table.split(".")[-1].strip('"`[]').lower(): columns
        for table, columns in found.items()
        if columns
    }
    return {
        t: {n.lower(): k.lower() for n, k in columns}
        for t, columns in plain.items()
        if t[:7] != "sqlite_"
    }


def databases(
    schema: Schema, question: str, wanted: str, found: str
) -> list[tuple[Tables, tuple[Result, Result]]]:
    """Fill databases, and run the reference on each of them.

    Returns:
        For each database, its tables and two results of the reference. The second result is that on
        the tables with their rows reversed, if it has the same rows as the first. The list is empty
        if the reference does not run.
    """
    pools = literals(f"{wanted}\n{found}", schema)
    nulls = 0.15 if re.search(r"(?i)null|coalesce", wanted + found) else 0.0
    ranks: list[list[tuple[Tables, tuple[Result, Result]]]] = [[], [], []]
    while len(ranks[0]) < DATABASES and (attempt := sum(map(len, ranks))) < ATTEMPTS:
        tables = fill(schema, random.Random(f"{attempt} {question}"), pools, nulls)
        given = run(schema, tables, wanted)
        again = run(schema, {table: rows[::-1] for table, rows in tables.items()}, wanted)
        if given is None or again is None:
            return []
        settled = Counter(given) == Counter(again)
        telling = any(map(any, given))
        ranks[2 - telling - (settled and telling)].append(
            (tables, (given, again if settled else given))
        )
    return next(rank for rank in ranks if rank)[:DATABASES]


def literals(queries: str, schema: Schema) -> dict[str, list[Any]]:
    """Collect the literals of the queries by the column that precedes each of them.

    Numbers come with the values one below and one above them. The key `/` holds years.
    """
    names = {column for columns in schema.values() for column in columns}
    last = ""
    pools = defaultdict[str, list[Any]](list)
    parts = re.search(r"(?i)strftime|substr", queries)  # the queries take dates apart
    for token in _TOKEN.findall(queries):
        inner = token[1:-1] if token[0] in "'\"`[" else token
        if token[0] != "'" and inner.lower() in names:
            last = inner.lower()
        elif token[0] in "'\"" and not (parts and re.fullmatch(r"[12]\d{3}", inner)):
            pools[last] += [inner.replace("''", "'").replace("%", joker) for joker in ("", "x")]
        elif re.fullmatch(r"-?\d{1,15}(\.\d+)?", token):
            pools[last] += [
                float(token) + step if "." in token else int(token) + step for step in (0, 0, -1, 1)
            ]
    years = [2020, *map(int, re.findall(r"\b[12]\d{3}\b", queries))]
    return pools | {"/": [year + step for year in years for step in (-1, 0, 1)]}


def fill(schema: Schema, draw: random.Random, pools: dict[str, list[Any]], nulls: float) -> Tables:
    """Fill every table with rows.

    All columns draw from the same small numbers, so joins and comparisons can find matches.
    """
    tables = Tables()
    keys = set[str]()
    share = draw.choice((0.3, 0.5, 0.8))
    for table, columns in schema.items():
        drawn = list[list[Any]]()
        twins = draw.choices((False, True), (6, 1), k=draw.randint(20, 40))
        for name, declared in columns.items():
            stem = re.sub(r"_?(id|code|number)$", "", name)
            pool = pools[name]
            named = not drawn and stem not in (name, "") and name not in keys and stem[:-1] in table
            if name == "id" or named or "primary key" in declared:
                keys.add(name)
                drawn.append(
                    draw.sample(list(dict.fromkeys([*pool, *range(len(twins))])), len(twins))
                )
                continue
            drawn.append([])
            # A twin repeats the row above except its keys, so that DISTINCT matters.
            for twin in twins:
                new = value(kind(name, declared), draw, pools["/"])
                new = draw.choice(pool) if pool and draw.random() < share else new
                drawn[-1].append(
                    drawn[-1][-1] if twin and drawn[-1] else None if draw.random() < nulls else new
                )
        tables[table] = list(zip(*drawn, strict=True))
    return tables


def kind(name: str, declared: str) -> str:
    """Choose what a column holds: date, text, real, bool or number.

    This is also the type of the column in SQLite.
    """
    found = next(
        (kind for kind, pattern in _KINDS.items() if re.match(rf"\w*({pattern})", declared)),
        "number",
    )
    return (
        "date" if re.search("(?<![a-z])date", name) and (found == "text" or not declared) else found
    )


def value(kind: str, draw: random.Random, years: list[int]) -> Any:
    """Draw one value for a column.

    Text columns hold digits too, so they can be added to numbers and compared with them.
    """
    number = draw.randrange(30)
    date = f"{draw.choice(years)}-{number % 12 + 1:02}-{draw.randint(1, 28):02}"
    return {"date": date, "real": number + draw.randrange(4) / 4, "bool": number % 2}.get(
        kind, number
    )


def run(schema: Schema, tables: Tables, query: str) -> Result | None:
    """Run a query on tables; None if it fails, writes, or needs too much time or space."""
    end = time.monotonic() + SECONDS
    result = Result()
    size = 0
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
        suppress(*_FAILURES),
    ):
        connection.set_progress_handler(lambda: time.monotonic() > end, 1000)
        for table, rows in tables.items():
            columns = [
                f'"{name}" {kind(name, declared)}' for name, declared in schema[table].items()
            ]
            connection.execute(f'CREATE TABLE "{table}" ({", ".join(columns)})')
            places = ", ".join("?" * len(columns))
            connection.executemany(f'INSERT INTO "{table}" VALUES ({places})', rows)  # noqa: S608
        # The heap limit holds for the process. Some queries grow while they are parsed.
        connection.executescript(f"PRAGMA query_only = ON; PRAGMA hard_heap_limit = {HEAP}")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CHARACTERS // 100)
        connection.set_authorizer(
            lambda action, _, name, *more: int(action not in _MAY or name == "load_extension")
        )
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
    if ";" in _INSIDE.sub("", query).rstrip("; \t\n"):
        return False
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"PRAGMA hard_heap_limit = {HEAP}")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CHARACTERS // 100)
        try:
            connection.execute(f"EXPLAIN {query}")
        except _FAILURES as error:
            return (
                isinstance(error, sqlite3.OperationalError)
                and _NO_GRAMMAR.search(str(error)) is None
            )
    return True


def agree(found: Result | None, wanted: Result, again: Result, ordered: bool) -> bool:
    """Check whether two results have the same rows.

    Args:
        found: The result of the prediction.
        wanted: The result of the reference.
        again: A second result of the reference. Rows are tied where the two results differ.
        ordered: Whether the rows must come in the same order, except for ties.
    """
    if found is None or Counter(found) != Counter(wanted):
        return False
    sums = zip(*(accumulate(map(hash, rows)) for rows in (found, wanted, again)), strict=True)
    return not ordered or all(one == two for one, two, three in sums if two == three)
