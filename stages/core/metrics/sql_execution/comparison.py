"""Compare the results of two queries on databases that are made for them."""

import random
import re
from collections import Counter
from itertools import accumulate

from stages.core.metrics.sql_execution.execution import INSIDE, run
from stages.core.metrics.sql_execution.rows import Rows, Tables, fill, literals
from stages.core.metrics.sql_execution.schema import Schema, read_schema

DATABASES = 5
ATTEMPTS = 24


class Suite:
    """The databases of a question, and what the reference returns on each of them.

    It is empty if no table is found or the reference does not run.
    """

    def __init__(self, question: str, wanted: str, found: str) -> None:
        self._schema = read_schema(question)
        self.databases = (
            make_databases(self._schema, question, wanted, found) if self._schema else []
        )
        self._ordered = bool(re.search(r"(?i)\border\s+by\b", INSIDE.sub("", wanted)))

    def match(self, found: str) -> bool:
        """Check whether a query returns on every database what the reference returns."""
        return all(
            agree(run(self._schema, tables, found), *given, self._ordered)
            for tables, given in self.databases
        )


def make_databases(
    schema: Schema, question: str, wanted: str, found: str
) -> list[tuple[Tables, tuple[Rows, Rows]]]:
    """Fill databases, and run the reference on each of them.

    Returns:
        For each database, its tables and two results of the reference. The second result is that on
        the tables with their rows reversed, if it has the same rows as the first. The list is empty
        if the reference does not run.
    """
    pools = literals(f"{wanted}\n{found}", schema)
    nulls = 0.15 if re.search(r"(?i)null|coalesce", wanted + found) else 0.0
    ranks: list[list[tuple[Tables, tuple[Rows, Rows]]]] = [[], [], []]
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


def agree(found: Rows | None, wanted: Rows, again: Rows, ordered: bool) -> bool:
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
