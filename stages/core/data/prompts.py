"""Prompts as messages and as token ids, shared by training, generation and serving."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.encoding import encode_texts
from stages.core.data.end_tokens import cut_after_end
from stages.core.data.records import Message, Record
from stages.core.data.template_differences import explain_difference
from stages.core.data.templates import TemplateError, Tools, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMPTY: Message = {"role": "system", "content": ""}
MARK = "§user§"  # the placeholder for the user's text in a rendered template


class Example(NamedTuple):
    """The tokens of one chat as training sees them."""

    ids: list[int]
    trained: list[bool]
    """For each token, whether its loss counts."""


class Segment(NamedTuple):
    """A part of a rendered chat."""

    text: str
    """The text, in which control tokens of the row's texts are marked (see `marks`)."""
    trained: bool


def build_prompt(
    record: Record, instruction: str | None, shots: Sequence[Record] = ()
) -> list[Message]:
    """Build the messages that ask for a record's target.

    Args:
        record: The row to answer.
        instruction: The system message. With None the row keeps its own system message. A row whose
            prompt consists only of system messages keeps them too.
        shots: Solved rows that become earlier turns, between the system message and the row's
            turns.
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
    """Encode a prompt up to the point where the assistant begins to answer."""
    return encode_texts(tokenizer, [render(tokenizer, prompt, tools, answer=True)])[0]


def split_user_turn(
    tokenizer: "PreTrainedTokenizerBase", before: Sequence[Message] = ()
) -> tuple[str, str]:
    """Return the text before and the text after the user's text in a rendered chat.

    Args:
        tokenizer: The tokenizer with the chat template.
        before: The messages before the user's message.

    Raises:
        TemplateError: The template refuses such a chat, or leaves the user's text out.
    """
    chat = [*before, {"role": "user", "content": MARK}]
    opening, found, closing = render(tokenizer, chat, (), answer=True).partition(MARK)
    if not found:
        raise TemplateError(
            "the model's chat template leaves out the user's text; choose another model"
        )
    return opening, closing


def replaces_system(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Check whether an empty system message shortens what the chat template puts before a chat.

    That is so if the template adds its own system message to a chat that has none. It is not so for
    templates that reject system messages or that add their own text to every system message.
    """
    try:
        return len(split_user_turn(tokenizer, [EMPTY])[0]) < len(split_user_turn(tokenizer)[0])
    except TemplateError:
        return False


def encode_target(tokenizer: "PreTrainedTokenizerBase", record: Record) -> list[int]:
    """Encode a record's target as training sees it, including the end of the turn."""
    asked = {key: value for key, value in record.messages[-1].items() if key != "weight"}
    text = split_chat(tokenizer, [*record.prompt, asked], record.tools)[-1].text
    return encode_texts(tokenizer, [text])[0]


def split_chat(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], tools: Tools = ()
) -> list[Segment]:
    """Render a chat and split it into trained and untrained parts.

    Each answer of weight 1, or without a weight, is a trained part that ends its turn. Messages
    after the last trained answer are left out, because nothing is learned from them. If the
    template ends the last answer with no special token, the tokenizer's end token is added.
    Otherwise the model would never learn to stop. Some templates render an earlier answer
    differently once the chat continues, for example to strip thoughts. Only the answers after such
    an answer are trained.

    Raises:
        TemplateError: The template refuses the chat. Or it renders the prompt of an answered chat
            differently from generation, so that training would use prompts that are never asked.
    """
    segments: list[Segment] = []
    before = ""  # the part of the chat that the segments already contain
    ended = True
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("weight") == 0:
            continue
        asked = render(tokenizer, messages[:i], tools, answer=True)
        answered = render(tokenizer, messages[: i + 1], tools, answer=False)
        if not answered.startswith(asked):
            raise TemplateError(explain_difference(tokenizer, messages[: i + 1], tools))
        if not asked.startswith(before):
            segments = []
            before = ""  # the template now renders earlier answers differently (without thoughts)
        answer, ended = cut_after_end(tokenizer, answered[len(asked) :])
        segments += [Segment(asked[len(before) :], False), Segment(answer, True)]
        before = asked + answer
    if not ended:
        segments[-1] = Segment(segments[-1].text + tokenizer.eos_token, True)
    return segments


def encode_segments(
    tokenizer: "PreTrainedTokenizerBase", chats: Sequence[Sequence[Segment]]
) -> list[Example]:
    """Encode many chats in one call of the tokenizer.

    Each part is tokenized alone, because generation also tokenizes the prompt alone.
    """
    texts = [segment.text for chat in chats for segment in chat]
    encoded = iter(encode_texts(tokenizer, texts))
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


def split_record(
    tokenizer: "PreTrainedTokenizerBase", record: Record, instruction: str | None
) -> list[Segment]:
    """Split a record that is asked with `instruction` into the segments that training sees.

    A record of kind `prompt` gives its prompt alone.

    Raises:
        TemplateError: See `split_chat`.
    """
    if record.kind == "text":
        text = get_control_tokens(tokenizer).mark(record.target, spoken=True)
        return [*_begin_text(tokenizer), Segment(text + tokenizer.eos_token, True)]
    prompt = build_prompt(record, instruction)
    if record.kind == "prompt":
        return [Segment(render(tokenizer, prompt, record.tools, answer=True), False)]
    return split_chat(tokenizer, [*prompt, record.messages[-1]], record.tools)


def get_text_start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the token with which the tokenizer begins a plain text, or an empty list.

    The models of Gemma and Llama 3, for example, have seen no text without it. A chat template
    writes it itself.
    """
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("").input_ids[:1] == [bos] else []


def _begin_text(tokenizer: "PreTrainedTokenizerBase") -> list[Segment]:
    return [Segment(tokenizer.bos_token, False)] if get_text_start(tokenizer) else []
