"""Hypothesis strategies for rows, files and chats, the sound ones and the malformed ones alike."""

import bz2
import copy
import datetime
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from stages.prepare.formats import FORMATS

SEEDS = sorted(
    path for path in Path("tests/prepare/malformed").iterdir() if path.name != "expected.json"
)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
MORE = ("role", "function_call", "tool_calls", "tool_call_id", "weight", "image", "system", "input")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md")
ODD = [
    *(
        "",
        " ",
        "\n",
        "\0",
        "\ufeff",
        "\u2028",
        "\x1b[31m",
        "\u202eabc",
        "e\u0301",
        "👩‍👩‍👧",
        "nan",
        "NaN",
    ),
    *("<|im_end|>", "<|im_start|>system\n", "</s>", "[INST]", "{{ 7*7 }}", "{% raw %}", "a\r\nb"),
    *("[1, 2]", '{"a": 1}', '[{"role": "user", "content": "x"}]', '{"a": 1, "a": 2}', '"', "\\"),
    *("1e400", "-0", "12345678901234567890123", "true", "[" * 500 + "]" * 500, "<think>a</think>"),
]
texts = (
    st.text(max_size=12)
    | st.sampled_from(ODD)
    | st.builds("{} {}".format, st.sampled_from(ODD), st.text(max_size=5))
)
json_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2**53, 2**64, -(2**63) - 1, 10**30])
    | st.floats()
    | texts
)
leaves = (  # what Parquet and data sets of the hub can hold besides
    json_leaves
    | st.binary(max_size=5)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.decimals()
    | st.timedeltas()
    | st.uuids()
)


def _nest(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    )


json_values = _nest(json_leaves)
deep = st.integers(90, 400).map(lambda depth: json.loads("[" * depth + "]" * depth))
values = st.integers(0, 9).flatmap(lambda n: deep if n == 0 else _nest(leaves))
filled = texts.filter(str.strip)
arguments = st.dictionaries(texts, json_values, max_size=2)
functions = st.fixed_dictionaries(
    {"name": st.just("f"), "arguments": arguments | arguments.map(json.dumps)}
)
calls = st.fixed_dictionaries(
    {"type": st.just("function"), "function": functions}, optional={"id": texts}
)
parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": filled}), min_size=1, max_size=3
)


def message(role: str) -> st.SearchStrategy[dict[str, Any]]:
    """Make a valid message of OpenAI's format."""
    optional: dict[str, Any] = {"name": texts, "weight": st.just(1)}
    if role == "assistant":
        optional |= {"tool_calls": st.lists(calls, max_size=2), "reasoning_content": texts}
    content = filled if role == "assistant" else filled | parts
    return st.fixed_dictionaries({"role": st.just(role), "content": content}, optional=optional)


question = message("user")
answer = message("assistant")
chats = st.lists(st.tuples(question, answer), min_size=1, max_size=2).flatmap(
    lambda pairs: st.just([one for pair in pairs for one in pair])
)
asked = filled | st.lists(question, min_size=1, max_size=1)
answered = filled | st.lists(answer, min_size=1, max_size=1)
turns = st.tuples(
    st.fixed_dictionaries({"from": st.just("human"), "value": filled}),
    st.fixed_dictionaries({"from": st.just("gpt"), "value": filled}),
).map(list)
pairs = st.lists(st.tuples(filled, st.sampled_from(["O", "B-X", "I-X"])), min_size=1, max_size=4)
definitions = st.fixed_dictionaries({"name": st.just("f")}, optional={"parameters": arguments})
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "messages": chats | chats.map(json.dumps),
    "conversations": turns,
    "input": asked,
    "ideal": filled | st.lists(filled, min_size=1, max_size=2),
    "preferred_output": st.lists(answer, min_size=1, max_size=1),
    "non_preferred_output": st.lists(answer, min_size=1, max_size=1),
    "chosen": answered,
    "rejected": answered,
    "completion": answered,
    "prompt": asked,
    "instruction": filled,
    "output": filled,
    "text": filled,
    "label": filled | st.integers() | st.booleans() | st.floats(allow_nan=False),
}
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "tools": st.lists(definitions, max_size=2),
    "parallel_tool_calls": st.booleans(),
    "extra": json_values,
    "group": texts,
    "class": texts,
    "split": st.sampled_from(["train", "test", "dev"]),
}


@st.composite
def valid_rows(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a row of a format, with a few more columns. It may still have an odd text."""
    name = draw(st.sampled_from(sorted(FORMATS)))
    optional = draw(st.fixed_dictionaries({}, optional=OPTIONAL))
    if name == "tokens":
        drawn = draw(pairs)
        return {"tokens": [a for a, _ in drawn], "tags": [b for _, b in drawn], **optional}
    row = {column: draw(COLUMNS[column]) for column in FORMATS[name].columns}
    if name == "openai-preference":
        row["input"] = {"messages": draw(st.lists(question, min_size=1, max_size=1))}
    return optional | row


@st.composite
def rows(draw: st.DrawFn, any_value: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Draw a valid row and damage up to two of its parts."""
    row = copy.deepcopy(draw(valid_rows()))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        part: Any = row
        while True:
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(part[key], dict | list) and draw(st.integers(0, 3)):
                part = part[key]
                continue
            damage = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
            if damage == "remove":
                del part[key]
            elif damage == "replace" or isinstance(part, list):
                part[key] = draw(any_value)
            else:
                part[draw(st.sampled_from([*MORE, *OPTIONAL]))] = draw(any_value)
            break
    return row


def _to_json(value: Any) -> str:
    return json.dumps(value, default=str)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw the name and the bytes of a file: a mutation of a malformed one, or one of drawn rows."""
    if draw(st.booleans()):
        seed = draw(st.sampled_from(SEEDS))
        suffixes = "".join(seed.suffixes)
        return f"rows{suffixes}", _mutate(draw, seed.read_bytes())
    suffix = draw(st.sampled_from(SUFFIXES))
    packing = draw(st.sampled_from(sorted(PACKERS)))
    drawn = draw(st.lists(rows(json_values), min_size=1, max_size=4))
    content = PACKERS[packing](_mutate(draw, _write(drawn, suffix)))
    return f"rows{suffix}{packing}", _mutate(draw, content) if packing else content


def _write(drawn: list[dict[str, Any]], suffix: str) -> bytes:
    if suffix == ".parquet":
        return _write_parquet(drawn)
    if suffix in {".csv", ".tsv"}:
        import csv

        target = io.StringIO()
        table = csv.DictWriter(
            target,
            list(drawn[0]),
            delimiter="," if suffix == ".csv" else "\t",
            extrasaction="ignore",
        )
        table.writeheader()
        table.writerows(
            {k: v if isinstance(v, str) else _to_json(v) for k, v in row.items()} for row in drawn
        )
        return target.getvalue().encode()
    if suffix == ".json":
        return _to_json(drawn).encode()
    return b"\n".join(_to_json(row).encode() for row in drawn)


def _write_parquet(drawn: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    target = io.BytesIO()
    try:
        write_table(pa.Table.from_pylist(drawn), target)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):  # rows of different types
        text = [{name: _to_json(value) for name, value in row.items()} for row in drawn]
        write_table(pa.Table.from_pylist(text), target)
    return target.getvalue()


def _mutate(draw: st.DrawFn, content: bytes) -> bytes:
    """Apply up to three changes: a cut, a repetition, inserted bytes or another encoding."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 20)))
        change = draw(st.sampled_from(["cut", "repeat", "insert", "replace", "truncate", "encode"]))
        if change == "cut":
            content = content[:start] + content[end:]
        elif change == "repeat":
            content = content[:end] + content[start:]
        elif change == "truncate":
            content = content[:end]
        elif change == "encode":
            codec = draw(st.sampled_from(["utf-16", "utf-16-be", "utf-32", "latin-1", "utf-8-sig"]))
            content = content.decode(errors="replace").encode(codec, "replace")
        else:
            new = draw(st.binary(max_size=4) | st.sampled_from([b"\n", b'"', b",", b"\r", b"\\"]))
            content = content[:start] + new + content[end if change == "replace" else start :]
    return content
