"""Read the tables that a question names, in any of the forms of the usual data sets.

This module and the others that the child process imports use the standard library alone, so that
the child starts in a moment.
"""

import re

Schema = dict[str, dict[str, str]]  # table to column to declared type

# Every pattern reads a text of n characters in about n steps, because rows are written by strangers.
_NAME = r"""(?:"[^"]+"|`[^`]+`|\[[^\]\[]+\]|\w+(?:\.\w+)*+)"""
NESTED = r"\([^()]*\)"
for _ in range(4):
    NESTED = rf"\((?:[^()']|'[^']*'|{NESTED})*\)"
_CREATE = re.compile(
    r"(?is)\bCREATE\s+(?:TEMP\w*\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    rf"({_NAME}(?:\.{_NAME})?)\s*({NESTED})"
)
_COLUMN = re.compile(rf"""\s*({_NAME})((?:"[^"]*"|`[^`]*`|'[^']*'|{NESTED}|[^,])*),?""")
_NO_COLUMN = re.compile(
    r"(?i)\s*(?:(PRIMARY|FOREIGN)\s+KEY|CONSTRAINT|CHECK|(UNIQUE|(FULLTEXT )?KEY|INDEX)[^()]*\()"
)
_TYPED = re.compile(r"(?m)^[^\S\n]*Table:? +(\S+?)\. +Columns: +(.+)$")
_LISTED = re.compile(r"(?m)^[^\S\n]*Table +(\S+?), *columns *= *\[(.*)\]")


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
