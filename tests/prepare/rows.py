"""What the tests of `prepare` share."""

import json

from stages.prepare.reading import Reader

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
QUESTION, ANSWER = CHAT["messages"]


def write(path, *lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def read(config, path, *overrides):
    """The records of a file and the findings about it."""
    checked = config(f"data.source.path={path}", "checks.min_rows=1", *overrides)
    reader = Reader(checked.data, checked.checks)
    return list(reader.read()), reader.findings._all, reader
