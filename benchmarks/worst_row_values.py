"""Rows that try to make a check of `prepare` slow, for `benchmarks.worst_rows`."""

import json
import random
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from stages.prepare.sources.json_values import PARTS

ANSWER = {"role": "assistant", "content": "yes"}
UNITS = {
    "one letter": "a",
    "slashes": "/",
    "URLs": "https://example.com/a/b?c=d ",
    "eyJ": "eyJ",
    "keys": "sk-proj- hf_ aws_key= ghp_ eyJ.eyJ -----BEGIN ://a: xoxb-1- AKIA ibm_key: Q~ -us ",
    "brackets": "[",
    "closed brackets": "[]",
    "braces and quotes": '{"a":',
    "combining marks": "\u0301\u0323",
    "marks and breaks": "\u0301\u0323" * 12 + "\u200b",
    "marks and tatweels": "\u0301\u0323" * 12 + "\u0640",
    "letters and marks": "a\u0301\u0323\u0328",
    "short words": "a b c d e ",
    "words": "the cat sat on the mat and ",
    "a word and stops": "a.",
    "emoji": "😀",
    "joined emoji": "👩‍👩‍👧",
    "Chinese": "我们今天去北京",
    "Thai": "กินข้าวที่บ้าน",
    "Arabic ligatures": "ﷺ",
    "control characters": "\x00\x01\x1b",
    "spaces": " ",
    "lines": "\n",
    "backslashes": "\\",
    "escapes": "\\n\\u0041",
    "quotes": '"',
    "commas": ",",
    "digits": "1",
    "control tokens": "<|im_end|>",
}


def make_texts(size: int) -> dict[str, str]:
    """Build the texts, each of about `size` bytes in UTF-8."""
    draws = random.Random(42)
    texts = {name: unit * (size // len(unit.encode())) for name, unit in UNITS.items()}
    letters = "".join(draws.choices("abcdefghijklmnopqrstuvwxyz ", k=size))
    return texts | {
        "base64": b64encode(draws.randbytes(size * 3 // 4)).decode(),
        "hexadecimal": draws.randbytes(size // 2).hex(),
        "random letters": letters,
        "one long word": letters.replace(" ", "e"),
        "all characters": "".join(map(chr, draws.choices(range(32, 0xD7FF), k=size // 3))),
        "nested JSON": json.dumps(json.dumps(json.dumps({"a": "\\" * (size // 16)}))),
    }


def make_rows(size: int) -> dict[str, dict[str, Any]]:
    """Build the rows: each text as a question, and rows whose structure is the problem."""
    texts = make_texts(size)
    rows = {
        name: {"messages": [{"role": "user", "content": text}, ANSWER]}
        for name, text in texts.items()
    }
    dots = "a." * (size // 6)
    asked = {"role": "user", "content": "a"}
    return {
        **rows,
        "target in prompt": {"messages": [asked | {"content": dots * 2 + "a"},
                                          {"role": "assistant", "content": dots}]},
        "a long answer": {"messages": [asked, ANSWER | {"content": texts["words"]}]},
        **{f"many {name}": make(size // unit) for name, (make, unit, _) in STRUCTURES.items()},
        **{f"{name} at the limit": make(min(size // unit, (PARTS - 40) // parts))
           for name, (make, unit, parts) in STRUCTURES.items()},
    }  # fmt: skip


def _make_turns(count: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "a"}, ANSWER] * count}


def _make_calls(count: int) -> dict[str, Any]:
    call = {"function": {"name": "<f", "arguments": {"<a": "b"}}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call] * count}
    return {"messages": [{"role": "user", "content": "a"}, answer], "tools": _define(1)}


def _make_tools(count: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "a"}, ANSWER], "tools": _define(count)}


def _define(count: int) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "<f", "parameters": {}}}] * count


def _make_keys(count: int) -> dict[str, Any]:
    answer = ANSWER | {f"{i}": 1 for i in range(count)}
    return {"messages": [{"role": "user", "content": "a"}, answer]}


def _make_columns(count: int) -> dict[str, Any]:
    return {f"{i}": 1 for i in range(count)}


STRUCTURES: dict[str, tuple[Callable[[int], dict[str, Any]], int, int]] = {
    "turns": (_make_turns, 75, 10),
    "calls": (_make_calls, 55, 9),
    "tools": (_make_tools, 65, 9),
    "keys": (_make_keys, 12, 2),
    "columns": (_make_columns, 12, 2),
}
"""For each kind of part: a function that makes a row of so many, the bytes, and the keys and values
of each."""
