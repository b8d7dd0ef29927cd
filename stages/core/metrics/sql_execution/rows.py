"""Fill the tables of a schema with values on which different queries give different results."""

import random
import re
from collections import defaultdict
from typing import Any

from stages.core.metrics.sql_execution.schema import Schema

Rows = list[tuple[Any, ...]]
Tables = dict[str, Rows]

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|`[^`]*`|\[[^\]\[]*\]|-?\b\d+(?:\.\d+)?\b|\w+""")
_KINDS = {
    "date": "date|time",
    "text": "char|text|string|clob|enum",
    "real": "real|floa|doub|dec",
    "bool": "bool",
}


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
