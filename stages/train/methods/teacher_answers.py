"""Distillation of sequences: supervised fine-tuning on the answers of a larger model, the teacher.

The teacher answers the prompts of the training rows, and its answers replace their targets. The
targets of validation and test rows stay those of the data set (Kim and Rush, "Sequence-Level
Knowledge Distillation", 2016).
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from stages.core.config.schema import Config
from stages.core.config.train_options import Teacher
from stages.core.data.prompts import build_prompt
from stages.core.data.records import Message, Record, RecordFile
from stages.core.data.thoughts import drop_thought
from stages.core.endpoint.requests import Reply, Request, chat
from stages.core.environment.processes import write_once
from stages.core.errors import UserError, hide_secrets
from stages.core.storage.files import read_json, sha256_file, write_json, write_jsonl
from stages.train.methods.sft import Answers

log = logging.getLogger(__name__)
FILE = "teacher.jsonl"
FACTS = "teacher.json"
SECTION = "train.teacher.endpoint"


class TeacherAnswers(Answers):
    """Supervised fine-tuning on the answers of `train.teacher`."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__(config, seed)
        self.teacher = cast(Teacher, config.train.teacher)

    def get_records(self, records: Sequence[Record], folder: Path) -> Sequence[Record]:
        """Return the records that the teacher answered, with its answers as targets.

        A killed run asks only for the answers that are not in the cache yet. With several processes
        the first one asks and the others wait for it. A dry run asks nobody.

        Raises:
            UserError: A record has another kind or tools, the endpoint cannot answer, or no answer
                can be learned.
        """
        if self.config.train.dry_run:
            log.info("The dry run asks no teacher and takes the targets of the data set.")
            return records
        file = folder / FILE

        def write() -> None:
            learned, facts = self._ask(records)
            write_json(folder / FACTS, facts)
            write_jsonl(file, learned)  # written last, because the other processes wait for it

        write_once(file, write)
        facts = read_json(folder / FACTS)
        self.metadata["teacher"] = {**facts, "sha256": sha256_file(file)}
        self.numbers["teacher"] = {
            key: facts[key] for key in ("prompt_tokens", "completion_tokens")
        }
        return RecordFile.open(file)

    def _ask(self, records: Sequence[Record]) -> tuple[list[Record], dict[str, Any]]:
        teacher = self.teacher
        self.check_kinds(records)
        _refuse_tools(records)
        log.info(
            "%s answers the prompts of %d training rows. Answers in the cache are not asked for.",
            *(teacher.endpoint.model, len(records)),
        )
        prompts = [build_prompt(record, teacher.system_prompt) for record in records]
        requests = [Request(prompt, teacher.max_new_tokens, self.config.seed) for prompt in prompts]
        replies = chat(teacher.endpoint, requests, SECTION)
        learned: list[Record] = []
        same = 0
        left_out: Counter[str] = Counter(cut=0, empty=0)
        for record, reply in zip(records, replies, strict=True):
            text = drop_thought("", reply.text, record.target)
            if reply.cut or not text.strip():
                left_out["cut" if reply.cut else "empty"] += 1
            else:
                learned.append(replace(record, messages=_answer(record, text)))
                same += text.strip() == record.target.strip()
        _tell(teacher, len(learned), left_out)
        return learned, {
            **_describe(teacher, replies),
            "asked": len(records),
            "learned": len(learned),
            "left_out": dict(left_out),
            "same_as_target": same,
        }


def _refuse_tools(records: Sequence[Record]) -> None:
    """Refuse rows with functions, because the text of a reply does not say what was called.

    Raises:
        UserError: A record has definitions or calls of functions.
    """
    for record in records:
        if record.tools or record.messages[-1].get("tool_calls"):
            raise UserError(
                f"train.teacher: {record.id} has functions to call, which distillation does not "
                "support. Remove such rows, or choose train=lora."
            )


def _answer(record: Record, text: str) -> list[Message]:
    """Return the chat with the teacher's answer, the only one that is learned."""
    earlier = [
        {**message, "weight": 0} if message["role"] == "assistant" else message
        for message in record.prompt
    ]
    return [*earlier, {"role": "assistant", "content": text}]


def _tell(teacher: Teacher, learned: int, left_out: Counter[str]) -> None:
    """Warn about answers that are left out.

    Raises:
        UserError: All answers are left out.
    """
    if not left_out.total():
        return
    text = (
        f"{left_out.total()} of {learned + left_out.total()} answers of {teacher.endpoint.model} "
        f"are left out: {left_out['cut']} were cut at train.teacher.max_new_tokens="
        f"{teacher.max_new_tokens}, and {left_out['empty']} are empty."
    )
    if not learned:
        raise UserError(f"{text} Raise train.teacher.max_new_tokens, or choose another teacher.")
    log.warning(text)


def _describe(teacher: Teacher, replies: Sequence[Reply]) -> dict[str, Any]:
    """Return who answered and what it took, without secrets."""
    fingerprints = {reply.fingerprint for reply in replies if reply.fingerprint}
    return {
        "base_url": hide_secrets(teacher.endpoint.base_url),
        "model": teacher.endpoint.model,
        "answered_by": sorted({reply.model for reply in replies}),
        "fingerprints": sorted(fingerprints),
        "system_prompt": teacher.system_prompt,
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
        "without_usage": sum(not reply.prompt_tokens for reply in replies),
    }
