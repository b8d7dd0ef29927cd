"""Replay: general chats mixed into training, so that the model forgets less of what it could do before.

The base model writes them itself (`stages/train/replay_writer.py`), or they come from a file of chats. Unlike the
task's rows they keep their own system messages: no instruction replaces them.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.data.prompts import (
    Segment,
    TemplateError,
    encode_segments,
    split_chat,
    split_user_turn,
)
from stages.core.environment.processes import is_main
from stages.core.errors import UserError
from stages.core.planning.auto import count_replay_rows
from stages.core.storage.files import read_json, read_jsonl, sha256_file, write_json, write_jsonl
from stages.train.examples import IGNORED, make_example
from stages.train.replay_rows import SELF, ReplayRow, read_chats

if TYPE_CHECKING:
    from datasets import Dataset

    from stages.train.methods.base import Method

FILE = "replay.jsonl"
FACTS = "replay.json"
POLL_SECONDS = 0.5  # between two looks whether the first process has written the rows


def mix_replay(
    method: "Method", examples: "Dataset", ids: list[str], folder: Path
) -> tuple["Dataset", list[str]]:
    """The training examples with the replay rows after them.

    Args:
        method: its configuration says how many rows and where from; its facts get what was mixed in.
        examples: of the task.
        ids: of the task's records, to which the column `row` of the examples points.
        folder: that all processes of this training see. The first one writes the rows there; the others wait for them.

    Returns:
        Examples and ids, both unchanged where `train.replay.share` is 0.

    Raises:
        UserError: the file of chats cannot be read, or the base model writes no rows of use.
    """
    wanted = count_replay_rows(method.config.train, len(examples))
    if not wanted:
        return examples, ids
    from datasets import Dataset, concatenate_datasets

    if is_main() and not (folder / FILE).exists():
        rows, facts = _get_rows(method, min(wanted, method.config.train.replay.rows))
        write_json(folder / FACTS, facts)
        write_jsonl(folder / FILE, rows)  # last: the other processes wait for this file
    while not (folder / FILE).exists():  # the launcher ends them where the first process fails
        time.sleep(POLL_SECONDS)
    rows = [ReplayRow(**row) for row in read_jsonl(folder / FILE)]
    encoded = encode_rows(method, rows)
    repeated = [{"row": len(ids) + i % len(rows), **encoded[i % len(rows)]} for i in range(wanted)]
    task, replayed = weigh(
        method.config.train.replay.share, examples["labels"], [row["labels"] for row in repeated]
    )
    method.replay = folder / FILE
    method.facts["replay"] = {
        **read_json(folder / FACTS),
        "sha256": sha256_file(folder / FILE),
        "different_rows": len(rows),
        "rows_an_epoch": wanted,
        "tokens_an_epoch": sum(example["length"] for example in repeated),
    }
    examples = examples.add_column("weight", [task] * len(examples))
    weighed = [{**row, "weight": replayed} for row in repeated]
    mixed = concatenate_datasets([examples, Dataset.from_list(weighed, features=examples.features)])
    return mixed, [*ids, *(row.id for row in rows)]


def weigh(
    share: float, task: Sequence[list[int]], replay: Sequence[list[int]]
) -> tuple[float, float]:
    """Weights of a target token of the task and of one of the replay rows.

    With them the replay rows have their share of the loss over an epoch, however long their answers are: a task whose
    answers are short labels would otherwise hardly be learned. The mean over all target tokens is 1.

    Args:
        share: `train.replay.share`.
        task: the labels of the task's examples.
        replay: of the replay rows of an epoch.
    """
    ours, theirs = (
        sum(label != IGNORED for labels in rows for label in labels) for rows in (task, replay)
    )
    return (1 - share) * (ours + theirs) / max(ours, 1), share * (ours + theirs) / max(theirs, 1)


def encode_rows(method: "Method", rows: Sequence[ReplayRow]) -> list[dict[str, Any]]:
    """`input_ids`, `labels` and `length` of each row.

    Raises:
        UserError: the chat template refuses a row, or it is longer than the model's limit.
    """
    limit = method.config.model.max_length
    source = method.config.train.replay.source
    examples = encode_segments(
        method.tokenizer, [_split(method.tokenizer, row, source) for row in rows]
    )
    for row, example in zip(rows, examples, strict=True):
        if len(example.ids) > limit:
            raise UserError(
                f"train.replay.source={source}: {row.id} has {len(example.ids)} tokens, which is more than "
                f"model.max_length={limit}. Shorten or remove that row."
            )
    return [make_example(example) for example in examples]


def _get_rows(method: "Method", count: int) -> tuple[list[ReplayRow], dict[str, Any]]:
    settings = method.config.train.replay
    facts = {"source": settings.source, "share": settings.share}
    if settings.source != SELF:
        return read_chats(Path(settings.source), count, method.config.seed), facts
    from stages.train.replay_writer import write_rows

    rows, seconds = write_rows(method, count)
    return rows, {**facts, "writing_seconds": seconds}


def _split(tokenizer: Any, row: ReplayRow, source: str) -> list[Segment]:
    if source == SELF:
        return _split_written(tokenizer, row)
    try:
        segments = split_chat(tokenizer, row.messages, row.tools)
    except TemplateError as error:
        raise UserError(f"train.replay.source={source}: {row.id}: {error}") from None
    last = segments[-1]
    return (
        [*segments[:-1], Segment(last.text.removesuffix(tokenizer.eos_token), True)]
        if row.unfinished
        else segments
    )


def _split_written(tokenizer: Any, row: ReplayRow) -> list[Segment]:
    """What was written stands as it was written: a template may render a part of an answer otherwise (thoughts)."""
    opening, closing = split_user_turn(tokenizer)
    question, answer = (message["content"] for message in row.messages)
    end = "" if row.unfinished else tokenizer.eos_token
    return [Segment(opening + question + closing, False), Segment(answer + end, True)]
