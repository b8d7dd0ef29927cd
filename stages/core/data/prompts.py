"""What each arm asks, as messages and as token ids. Training, generation and serving all build prompts here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.core.data.records import Message, Record
from stages.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tools = Sequence[dict[str, Any]]


class TemplateError(UserError):
    """The model's chat template refuses a chat, or renders it so that it cannot be trained on."""


MARK = "§user§"  # stands in a rendered template where the user's text would


class Example(NamedTuple):
    """One chat as training sees it."""

    ids: list[int]
    trained: list[bool]
    """For each token whether its loss counts."""


class Segment(NamedTuple):
    """A part of a rendered chat."""

    text: str
    trained: bool


def build_prompt(
    record: Record, instruction: str | None, shots: Sequence[Record] = ()
) -> list[Message]:
    """The messages that ask for a record's target.

    Args:
        record: the row to answer.
        instruction: the system message; null keeps the row's own, and so does a row that asks nothing but in it.
        shots: solved rows, put as earlier turns between the system message and the row's.
    """
    system = [message for message in record.prompt if message["role"] == "system"]
    asked = [message for message in record.prompt if message["role"] != "system"]
    if instruction is not None and asked:
        system = [{"role": "system", "content": instruction}]
    turns = [message for shot in shots for message in shot.messages if message["role"] != "system"]
    return system + turns + asked


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase", prompt: list[Message], tools: Tools = ()
) -> list[int]:
    """Token ids of the prompt, up to where the assistant begins to answer."""
    return tokenizer(_render(tokenizer, prompt, tools, answer=True), add_special_tokens=False)[
        "input_ids"
    ]


def split_user_turn(
    tokenizer: "PreTrainedTokenizerBase", before: Sequence[Message] = ()
) -> tuple[str, str]:
    """What a rendered chat has before the user's text, and what comes after the text.

    Args:
        tokenizer: with the chat template.
        before: messages before the user's.

    Raises:
        TemplateError: the template refuses such a chat, or leaves the user's text out.
    """
    chat = [*before, {"role": "user", "content": MARK}]
    opening, found, closing = _render(tokenizer, chat, (), answer=True).partition(MARK)
    if not found:
        raise TemplateError("the chat template of the model leaves the user's text out")
    return opening, closing


def encode_target(tokenizer: "PreTrainedTokenizerBase", record: Record) -> list[int]:
    """Token ids of the record's target as training sees them, the end of the turn included."""
    asked = {key: value for key, value in record.messages[-1].items() if key != "weight"}
    text = split_chat(tokenizer, [*record.prompt, asked], record.tools)[-1].text
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def split_chat(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], tools: Tools = ()
) -> list[Segment]:
    """The rendered chat in parts, each answer of weight 1 (or of none) a trained part that ends its turn.

    Messages after the last trained answer are left out: nothing is learned from them. Where the template has no end of
    turn the tokenizer's end token is added, or the model would never learn to stop. Where it renders an earlier answer
    otherwise once the chat goes on (as templates do that strip thoughts), only the answers after it are trained.

    Raises:
        TemplateError: the template refuses the chat, or renders the prompt of an answered chat otherwise than
            generation does, so that the model would be trained on something that it is never asked.
    """
    segments: list[Segment] = []
    before = ""  # the part of the chat that is in the segments
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("weight") == 0:
            continue
        asked = _render(tokenizer, messages[:i], tools, answer=True)
        answered = _render(tokenizer, messages[: i + 1], tools, answer=False)
        if not answered.startswith(asked):
            raise TemplateError(_explain(asked, answered))
        if not asked.startswith(before):
            segments = []
            before = ""  # the template renders earlier answers otherwise (without their thoughts)
        answer = _cut_after_end(answered[len(asked) :], tokenizer.eos_token)
        ended = answer if answer.endswith(tokenizer.eos_token) else answer + tokenizer.eos_token
        segments += [Segment(asked[len(before) :], False), Segment(ended, True)]
        before = asked + answer
    return segments


def encode_segments(
    tokenizer: "PreTrainedTokenizerBase", chats: Sequence[Sequence[Segment]]
) -> list[Example]:
    """Token ids of many chats in one call. Each part is tokenized alone, as generation tokenizes the prompt alone."""
    texts = [segment.text for chat in chats for segment in chat]
    encoded = iter(_tokenize(tokenizer, texts))
    examples = []
    for chat in chats:
        ids: list[int] = []
        trained: list[bool] = []
        for segment in chat:
            part = next(encoded)
            ids += part
            trained += [segment.trained] * len(part)
        examples.append(Example(ids, trained))
    return examples


def _tokenize(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, Tokenizer):  # twice as fast as by its wrapper
        return [
            encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)
        ]
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def split_record(
    tokenizer: "PreTrainedTokenizerBase", record: Record, instruction: str | None
) -> list[Segment]:
    """What training sees of a record that is asked with `instruction`; of a `prompt` the prompt alone.

    Raises:
        TemplateError: as `split_chat`.
    """
    if record.kind == "text":
        return [Segment(record.target + tokenizer.eos_token, True)]
    prompt = build_prompt(record, instruction)
    if record.kind == "prompt":
        return [Segment(_render(tokenizer, prompt, record.tools, answer=True), False)]
    return split_chat(tokenizer, [*prompt, record.messages[-1]], record.tools)


def _render(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], tools: Tools, *, answer: bool
) -> str:
    from jinja2 import TemplateError as JinjaError

    try:
        return tokenizer.apply_chat_template(
            messages, tools=list(tools) or None, add_generation_prompt=answer, tokenize=False
        )
    except (JinjaError, TypeError, KeyError) as error:
        raise TemplateError(f"the chat template of the model refuses it: {error}") from None


def _cut_after_end(answer: str, end: str) -> str:
    """The answer up to its end token; the whole of it where the template has none."""
    at = answer.rfind(end)
    return answer if at < 0 else answer[: at + len(end)]


def _explain(asked: str, answered: str) -> str:
    return (
        "the chat template renders an answered chat with another prompt than an open one:\n"
        f"  open:     …{asked[-80:]!r}\n  answered: …{answered[: len(asked)][-80:]!r}\n"
        "Choose a model whose template does not."
    )
