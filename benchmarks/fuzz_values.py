"""Hypothesis strategies for rows, files and chats, the sound ones and the malformed ones alike."""

import bz2
import datetime
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from stages.prepare.formats import FORMATS
from stages.prepare.raw_examples import ROLES

SEEDS = sorted(
    path for path in Path("tests/prepare/malformed").iterdir() if path.name != "expected.json"
)
PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
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
values = _nest(leaves) | st.integers(90, 1200).map(
    lambda depth: json.loads("[" * min(depth, 400) + "]" * min(depth, 400))
)
roles = st.sampled_from([*ROLES, "human", "gpt", "function_call", "observation", "bot"])
arguments = st.dictionaries(texts, json_values, max_size=2)
names = st.sampled_from(["f", "g"])


def calls(any_value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Make tool calls, some of them valid."""
    function = st.fixed_dictionaries(
        {"name": names, "arguments": arguments | arguments.map(json.dumps) | any_value}
    )
    call = st.fixed_dictionaries({"function": function}, optional={"id": texts | any_value})
    return st.lists(call | function, max_size=2) | any_value


def messages(any_value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Make messages of OpenAI's format, some of them valid."""
    part = st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url"]), "text": texts},
        optional={"image": any_value},
    )
    return st.fixed_dictionaries(
        {"role": roles, "content": texts | st.lists(part | any_value, max_size=2) | any_value},
        optional={
            "weight": st.sampled_from([0, 1]) | any_value,
            "tool_calls": calls(any_value),
            "function_call": any_value,
            "name": texts | any_value,
            "reasoning_content": texts | any_value,
            "tool_call_id": texts | any_value,
            "mood": any_value,
        },
    )


def rows(any_value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Make rows with the columns of a format and a few others, some of them valid."""
    shared = st.fixed_dictionaries({"from": roles, "value": texts}) | messages(any_value)
    good = st.tuples(
        st.fixed_dictionaries({"role": st.just("user"), "content": texts}),
        st.fixed_dictionaries({"role": st.just("assistant"), "content": texts}),
    ).map(list)
    chat = good | st.lists(shared | any_value, max_size=4)
    cell = texts | chat | chat.map(_to_json) | any_value
    tool = st.fixed_dictionaries({"name": names}, optional={"parameters": arguments})
    optional = {
        "tools": st.lists(tool, max_size=2) | any_value,
        "parallel_tool_calls": st.booleans() | any_value,
        "system": cell,
        "extra": any_value,
        "group": any_value,
        "class": any_value,
        "split": st.sampled_from(["train", "test", "dev"]) | any_value,
    }
    columns = {name: [*form.columns, *form.either[:1]] for name, form in FORMATS.items()}
    optional |= {"input": cell, "label": cell}
    return st.sampled_from(sorted(columns)).flatmap(
        lambda name: st.fixed_dictionaries(
            dict.fromkeys(columns[name], cell),
            optional={key: made for key, made in optional.items() if key not in columns[name]},
        )
    )


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
