"""Find the spellings of the model's control tokens in the texts of records."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.marks import split_marked
from stages.core.data.records import Record
from stages.core.secret_formats import strings
from stages.prepare.findings import Finding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 5  # different tokens that a finding names
ADVICE = (
    "the model reads it as ordinary text; if it is left over from a rendered chat, remove it and "
    "give the turns as messages, the thoughts as `reasoning_content` and the calls as `tool_calls`"
)


def find_control_tokens(
    tokenizer: "PreTrainedTokenizerBase", record: Record, place: tuple[str, int]
) -> list[Finding]:
    """Report each field of a record that contains control tokens of the model.

    Args:
        tokenizer: The tokenizer of the model.
        record: The record.
        place: The file and the line of the record.
    """
    findings = []
    for field, marked in _mark_fields(tokenizer, record):
        # Two marks that the text itself contains are marked too, and are no tokens.
        tokens = [
            piece
            for text in strings(marked)
            for piece, is_token in split_marked(text)
            if is_token and len(piece) > 1
        ]
        if tokens:
            different = list(dict.fromkeys(tokens))
            more = f" and {len(different) - SHOWN} others" if len(different) > SHOWN else ""
            what = (
                f"{len(tokens)} control token{'s' * (len(tokens) > 1)} of the model: "
                f"{', '.join(map(repr, different[:SHOWN]))}{more}"
            )
            findings.append(Finding("control_token", *place, field, what, ADVICE, record.id))
    return findings


def _mark_fields(tokenizer: "PreTrainedTokenizerBase", record: Record) -> Iterator[tuple[str, Any]]:
    """Mark the control tokens in a record and return each field with its marked value."""
    control = get_control_tokens(tokenizer)
    if record.kind == "text":
        yield "messages[0].content", control.mark(record.target, spoken=True)
        return
    for i, message in enumerate(control.mark_chat(record.messages)):
        yield from ((f"messages[{i}].{key}", value) for key, value in message.items())
    for message in control.mark_chat([record.rejected] if record.rejected else []):
        yield from ((f"rejected.{key}", value) for key, value in message.items())
    yield "tools", control.mark(record.tools)
