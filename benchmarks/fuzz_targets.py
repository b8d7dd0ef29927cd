"""What must hold of any file, row, chat and record. Each function is called with drawn values."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra import compose, initialize_config_dir
from hypothesis import strategies as st

from benchmarks.fuzz_values import files, json_values, rows, texts, values
from stages.core.config.schema import Config, parse
from stages.core.data.end_tokens import get_last_special
from stages.core.data.marks import unmark
from stages.core.data.prompts import encode_segments, split_chat
from stages.core.data.records import SPLITS, Record
from stages.core.data.templates import TemplateError, render
from stages.core.errors import UserError
from stages.core.models.base_models import get_base_tokenizer
from stages.prepare.findings import Findings
from stages.prepare.formats import FORMATS
from stages.prepare.raw_examples import as_text
from stages.prepare.reading import Placed, Reader
from stages.prepare.similarity.duplicates import DuplicateFilter
from stages.prepare.similarity.near_duplicates import ORDER, NearDuplicates
from stages.prepare.sources.rows import Row
from stages.prepare.split import Splitter
from stages.prepare.splits import SplitFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEGIN = "<|im_start|>"
KINDS = ["chat", "preference", "unpaired", "prompt", "text"]
OVERRIDES = [
    *("model=tiny-random", "data=chat-jsonl", "data.source.path=rows.jsonl"),
    f"train.record_types=[{','.join(KINDS)}]",
]


@cache
def config() -> Config:
    """Compose the configuration that all targets start from."""
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        return parse(compose("config", overrides=list(OVERRIDES)))


settings = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from([*FORMATS, *["auto"] * len(FORMATS)]),
        "label_column": st.sampled_from(["class", "label"]),
        "group_column": st.just("group"),
        "metadata_columns": st.just(["extra", "class"]),
        "lines": st.just("(?P<text>.+):(?P<label>.*)"),
    },
)


def configure(path: str, chosen: dict[str, Any], split: str | None) -> Config:
    """Return the configuration with another path, other columns and another column of splits."""
    data = config().data
    source = data.source.model_copy(update={"path": path})
    splits = data.split.model_copy(update={"column": split})
    changed = data.model_copy(update={"source": source, "split": splits, **chosen})
    return config().model_copy(update={"data": changed})


def check_file(file: tuple[str, bytes], chosen: dict[str, Any], split: str | None) -> None:
    """Any file gives records and findings, or one message to the user."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file[0]
        path.write_bytes(file[1])
        reader, findings = _open(configure(str(path), chosen, split), folder)
        try:
            read = list(reader.read())
        except UserError as error:
            assert "rows" in str(error)
            return
        _check(read, findings, Path(folder))


def check_rows(drawn: list[dict[str, Any]], chosen: dict[str, Any], split: str | None) -> None:
    """Any row gives a record whose texts are texts of the row, or at least one finding."""
    given = [Row("rows", line, value) for line, value in enumerate(drawn, start=1)]
    with tempfile.TemporaryDirectory() as folder:
        reader, findings = _open(configure("rows", chosen, split), folder)
        reader.source = SimpleNamespace(rows=lambda: iter(given))
        read = list(reader.read())
        found = _check(read, findings, Path(folder))
    for row in given:
        placed = [one for one in read if one.line == row.line]
        assert placed or row.line in {finding["line"] for finding in found}
        for one in placed:
            known = set(_texts(row.value))
            for message in [*one.record.messages, *filter(None, [one.record.rejected])]:
                _check_text(message["content"], known, reader.format, row.value)
                for key in ("name", "reasoning_content", "tool_call_id"):
                    assert message.get(key, "") in known | {""}


def _open(checked: Config, folder: str) -> tuple[Reader, Findings]:
    findings = Findings(checked.checks, Path(folder) / "findings.jsonl")
    return Reader(checked, findings), findings


def _check(read: list[Placed], findings: Findings, folder: Path) -> list[dict[str, Any]]:
    findings.close()
    found = [json.loads(line) for line in (folder / "findings.jsonl").read_bytes().splitlines()]
    assert all(finding["found"] and finding["todo"] for finding in found)
    findings.table().encode()
    for placed in read:
        record = placed.record
        assert Record.load(record.dump()) == record and placed.split in SPLITS
        assert all(isinstance(message["content"], str) for message in record.messages)
        assert record.kind == "prompt" or record.messages[-1]["role"] == "assistant"
        assert isinstance(record.meta.get("label", ""), str)
    return found


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a value, and those of the JSON in its texts."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield str(key)
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        if all(isinstance(part, str) for part in parts):
            yield "".join(parts)
    elif isinstance(value, str):
        yield value
        if value.lstrip()[:1] in {"[", "{"}:
            try:
                yield from _texts(json.loads(value))
            except (ValueError, RecursionError):
                return
    elif isinstance(text := as_text(value), str):
        yield text


def _check_text(text: str, known: set[str], name: str | None, value: dict[str, Any]) -> None:
    if name == "tokens":
        return  # its target lists the entities
    made = f"{value.get('instruction')}\n\n{value.get('input')}"
    assert text in {*known, made, ""} or any(text in whole for whole in known), repr(text)


def check_chat(place: int, turns: list[str], system: str | None) -> None:
    """A rendered prompt contains the user's text, and the parts of a chat are the rendered chat."""
    name, template = templates()[place % len(templates())]
    if (made := tokenizer(template)) is None:
        return
    asked = [] if system is None else [{"role": "system", "content": system}]
    for i, text in enumerate(turns):
        asked.append({"role": "assistant" if i % 2 else "user", "content": text})
    try:
        prompt = unmark(render(made, asked[: len(asked) - len(turns) + 1], (), answer=True))
        parts = split_chat(made, asked)
    except TemplateError:
        return
    assert turns[0] in prompt or turns[0].strip() in prompt, f"{name}: {prompt!r}"
    [example] = encode_segments(made, [parts])
    joined = unmark("".join(part.text for part in parts))
    # Some tokenizers lack bytes, such as those of the planes of Unicode that nothing uses.
    if all(made.decode(ids) == text for text, ids in _encode(made, [*turns, system or ""])):
        assert made.decode(example.ids) == joined, f"{name}: {joined!r}"
    assert not parts or get_last_special(made, parts[-1].text), name
    if len(turns) % 2 == 0:
        whole = unmark(render(made, asked, (), answer=False))
        # An end is added to the last answer where the template has none.
        added = joined.removesuffix(made.eos_token)
        assert joined in whole or added in whole, f"{name}: {joined!r} {whole!r}"


def _encode(made: "PreTrainedTokenizerBase", plain: list[str]) -> Iterator[tuple[str, list[int]]]:
    return zip(plain, made(plain, add_special_tokens=False)["input_ids"], strict=True)


@cache
def templates() -> list[tuple[str, str | None]]:
    """Return the names and texts of TRL's chat templates, and None for the tiny model's."""
    folder = Path(find_spec("trl").origin).parent / "chat_templates"
    return [
        ("tiny-random", None),
        *((path.stem, path.read_text()) for path in sorted(folder.glob("*.jinja"))),
    ]


@cache
def _plain_tokenizer() -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        get_base_tokenizer(config().model).path, bos_token=BEGIN, clean_up_tokenization_spaces=False
    )


@cache
def tokenizer(template: str | None) -> "PreTrainedTokenizerBase | None":
    """Return a byte tokenizer with a template, or None if this shows no text but parts alone."""
    made = copy.copy(_plain_tokenizer())
    made.chat_template = template or made.chat_template
    try:
        shown = render(made, [{"role": "user", "content": "question"}], (), answer=True)
    except TemplateError:
        return None
    return made if "question" in shown else None


def make_record(question: str, answer: str, label: str | None, group: str | None) -> Record:
    """Make a record of a question and its answer."""
    given = {"label": label, "group": group}
    return Record.of(
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        meta={key: value for key, value in given.items() if value},
    )


def check_splits(drawn: list[Record], seed: int) -> None:
    """Equal questions stay together, an equal row is a duplicate, and near pairs are near."""
    splitter = Splitter(config().data.split, seed, set())
    seen = DuplicateFilter()
    chosen: dict[str, str] = {}
    placed = []
    for line, record in enumerate(drawn, start=1):
        split = splitter.choose(record, None)
        assert split in SPLITS
        if not record.meta.get("group"):
            # Labels are dealt, so the first record of a question decides, unless it had none.
            key = f"{record.question}\0{bool(record.meta.get('label'))}"
            assert chosen.setdefault(key, split) == split
        equal = [one.record for one in placed if one.split == split and one.record.id == record.id]
        found = seen.check(record, split, "rows", line)
        assert found or not equal
        if not found:
            seen.take(record, split)
            placed.append(Placed(record, split, "rows", line))
    _check_near(placed, seed)


def _check_near(placed: list[Placed], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = SplitFiles(Path(folder))
        written.write(placed)
        near = NearDuplicates(0.8, seed, written)
        for split in ORDER:
            for batch in written.batches(split):
                near.add(batch)
        pairs = near.find(np.zeros(len(ORDER), bool))
        assert ((pairs.similarity >= 0.8) & (pairs.similarity <= 1)).all()  # noqa: PLR2004
        assert (pairs.first < pairs.second).all()


splits = st.none() | st.just("split")
words = texts | st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=12).map(" ".join)
TARGETS: dict[str, tuple[Callable[..., None], tuple[st.SearchStrategy[Any], ...]]] = {
    "files": (check_file, (files(), settings, splits)),
    "rows": (check_rows, (st.lists(rows(values), min_size=1, max_size=3), settings, splits)),
    "json rows": (
        check_rows,
        (st.lists(rows(json_values), min_size=1, max_size=3), settings, splits),
    ),
    "chats": (
        check_chat,
        (st.integers(0, 10**6), st.lists(texts, min_size=1, max_size=4), st.none() | texts),
    ),
    "splits": (
        check_splits,
        (
            st.lists(
                st.builds(
                    make_record, words, words, st.none() | st.sampled_from("xy"), st.none() | texts
                ),
                max_size=8,
            ),
            st.integers(0, 2**32 - 1),
        ),
    ),
}
