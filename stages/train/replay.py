"""Replay of general chats during training, so that the model forgets less of what it could do.

The base model writes these chats itself (`stages/train/replay_writer.py`), or they come from files.
Unlike the rows of the task they keep their own system messages. No instruction replaces them.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.data.chat_files import SELF, list_chat_files
from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.end_tokens import get_last_special, get_turn_end
from stages.core.data.prompts import Segment, encode_segments, split_chat
from stages.core.data.records import Record
from stages.core.data.templates import TemplateError, render
from stages.core.data.thoughts import get_header
from stages.core.environment.processes import write_once
from stages.core.errors import UserError
from stages.core.planning.auto import count_replay_rows
from stages.core.storage.files import read_json, read_jsonl, sha256_file, write_json, write_jsonl
from stages.train.examples import make_example
from stages.train.replay_questions import draw_questions
from stages.train.replay_rows import ReplayRow, draw_rows, get_shares, read_chats
from stages.train.stored_examples import read_numbers

if TYPE_CHECKING:
    from datasets import Dataset

    from stages.train.methods.base import Method

FILE = "replay.jsonl"
FACTS = "replay.json"


def mix_replay(
    method: "Method", examples: "Dataset", records: Sequence[Record], folder: Path
) -> tuple["Dataset", list[str]]:
    """Append the replay rows to the training examples.

    Args:
        method: The training method. Its configuration sets the number of rows and their source. Its
            `metadata` and `replay` are set from the rows.
        examples: The examples of the task.
        records: The task's records, to which the column `row` of the examples points.
        folder: A folder that all processes of this training see. The first process writes the rows
            there and the others wait for them.

    Returns:
        The examples, and the ids of the records and of the replay rows. Without replay rows
        (`train.replay.fraction` of 0) the examples are unchanged.

    Raises:
        UserError: The file of chats cannot be read, or the base model writes too few useful rows.
    """
    ids = [record.id for record in records]
    wanted = count_replay_rows(method.config.train, len(examples))
    if not wanted:
        return examples, ids
    from datasets import Dataset, concatenate_datasets

    settings = method.config.train.replay

    def write() -> None:
        rows, facts = _get_rows(method, records, wanted)
        write_json(folder / FACTS, facts)
        write_jsonl(folder / FILE, rows)  # written last, because the other processes wait for it

    write_once(folder / FILE, write)
    facts = read_json(folder / FACTS)
    rows = [ReplayRow(**row) for row in read_jsonl(folder / FILE)]
    encoded = encode_rows(method, rows)
    order = np.array(draw_rows(rows, facts["shares"], wanted, method.config.seed))
    task, replayed = get_loss_weights(
        settings.loss_fraction or settings.fraction,
        int(read_numbers(examples, "targets").sum()),
        int(np.array([row["targets"] for row in encoded])[order].sum()),
    )
    method.replay = folder / FILE
    method.metadata["replay"] = {
        **facts,
        "sha256": sha256_file(folder / FILE),
        "different_rows": len(rows),
        "rows_an_epoch": wanted,
        "tokens_an_epoch": int(np.array([row["length"] for row in encoded])[order].sum()),
    }
    examples = examples.add_column("weight", [task] * len(examples))
    weighed = [{"row": len(ids) + i, **row, "weight": replayed} for i, row in enumerate(encoded)]
    if settings.asks_base:
        examples = examples.add_column("of_base", [False] * len(examples))
        weighed = [
            {**example, "of_base": row.source == SELF}
            for example, row in zip(weighed, rows, strict=True)
        ]
    once = Dataset.from_list(weighed, features=examples.features)
    # Repeated rows share their memory.
    mixed = concatenate_datasets([examples, once.select(order)])
    return mixed, [*ids, *(row.id for row in rows)]


def get_loss_weights(share: float, task: int, replay: int) -> tuple[float, float]:
    """Compute the loss weights of a target token of the task and of a replay row.

    With these weights the replay rows have their share of the loss over an epoch, however long
    their answers are. Without them a task whose answers are short labels would hardly be learned.
    The mean weight over all target tokens is 1.

    Args:
        share: The share of the loss that the replay rows get.
        task: The target tokens of the task's examples.
        replay: The target tokens of the replay rows of an epoch.
    """
    both = task + replay
    return (1 - share) * both / max(task, 1), share * both / max(replay, 1)


def encode_rows(method: "Method", rows: Sequence[ReplayRow]) -> list[dict[str, Any]]:
    """Create an example with `input_ids`, `labels`, `length` and `targets` for each row.

    Raises:
        UserError: The chat template rejects a row, or a row is longer than the model's limit.
    """
    limit = method.config.model.max_length
    source = method.config.train.replay.source
    examples = encode_segments(
        method.tokenizer, [_split(method.tokenizer, row, source) for row in rows]
    )
    for row, example in zip(rows, examples, strict=True):
        if len(example.ids) > limit:
            raise UserError(
                f"train.replay.source={source}: {row.id} has {len(example.ids)} tokens, which is "
                f"more than model.max_length={limit}. Shorten or remove that row."
            )
    return [make_example(example) for example in examples]


def _get_rows(
    method: "Method", records: Sequence[Record], count: int
) -> tuple[list[ReplayRow], dict[str, Any]]:
    settings = method.config.train.replay
    files = list_chat_files(settings.source)
    shares = get_shares(files, settings.weights)
    facts: dict[str, Any] = {
        "source": settings.source,
        "fraction": settings.fraction,
        "shares": shares,
    }
    found: list[ReplayRow] = []
    for name, share in shares.items():
        most = min(math.ceil(share * count), settings.rows)
        if name == SELF:
            written, about = _write_rows(method, records, most)
            found += written
            facts |= about
        else:
            found += read_chats(files[name], most, method.config.seed)
    return found, facts


def _write_rows(
    method: "Method", records: Sequence[Record], count: int
) -> tuple[list[ReplayRow], dict[str, Any]]:
    from stages.train.replay_writer import write_rows

    share = method.config.train.replay.task_questions
    questions = draw_questions(method, records, round(share * count))
    rows, seconds = write_rows(method, questions, count)
    return rows, {"task_questions": len(questions), "writing_seconds": seconds}


def _split(tokenizer: Any, row: ReplayRow, source: str) -> list[Segment]:
    if row.source == SELF:
        return _split_written(tokenizer, row)
    try:
        segments = split_chat(tokenizer, row.messages, row.tools)
    except TemplateError as error:
        raise UserError(f"train.replay.source={source}: {row.id}: {error}") from None
    last = segments[-1]
    end = get_last_special(tokenizer, last.text) or ""
    return (
        [*segments[:-1], Segment(last.text.removesuffix(end), True)] if row.unfinished else segments
    )


def _split_written(tokenizer: Any, row: ReplayRow) -> list[Segment]:
    """Join the texts of a row exactly as the base model wrote them.

    A template might render parts of an answer differently, such as thoughts.
    """
    asked = render(tokenizer, row.messages[:-1], (), answer=True)
    answer = get_control_tokens(tokenizer).mark(row.messages[-1]["content"], spoken=True)
    end = "" if row.unfinished else get_turn_end(tokenizer) or tokenizer.eos_token
    return [Segment(asked, False), Segment(get_header(tokenizer) + answer + end, True)]
