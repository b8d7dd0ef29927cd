"""What each arm asks, as messages and as token ids. Training, generation and serving all build prompts here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.core.errors import UserError
from stages.core.records import Message, Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def build_prompt(record: Record, instruction: str | None, shots: Sequence[Record] = ()) -> list[Message]:
    """The messages that ask for a record's target.

    Args:
        record: the row to answer.
        instruction: the system message; null keeps the row's own.
        shots: solved rows, put as earlier turns between the system message and the row's.
    """
    system = [message for message in record.prompt if message["role"] == "system"]
    if instruction is not None:
        system = [{"role": "system", "content": instruction}]
    turns = [message for shot in shots for message in shot.messages if message["role"] != "system"]
    return system + turns + [message for message in record.prompt if message["role"] != "system"]


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", prompt: list[Message]) -> list[int]:
    """Token ids of the prompt, up to where the assistant begins to answer."""
    text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_example(
    tokenizer: "PreTrainedTokenizerBase", prompt: list[Message], target: str
) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the completion, whose last token is the end of the turn.

    Raises:
        UserError: with this chat template the prompt of an answered chat is not the prompt that generation builds, so
            that the model would be trained on something that it is never asked.
    """
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    answered = tokenizer.apply_chat_template(
        [*prompt, {"role": "assistant", "content": target}], add_generation_prompt=False, tokenize=False
    )
    if not answered.startswith(asked):
        raise UserError(
            "the chat template renders an answered chat with another prompt than an open one:\n"
            f"  open:     …{asked[-80:]!r}\n  answered: …{answered[: len(asked)][-80:]!r}\n"
            "Choose a model whose template does not, or set one that does not."
        )
    completion = tokenizer(answered[len(asked) :], add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    if end not in completion:
        completion.append(end)  # a template without an end of turn would never teach the model to stop
    last = len(completion) - 1 - completion[::-1].index(end)
    return encode_prompt(tokenizer, prompt), completion[: last + 1]
