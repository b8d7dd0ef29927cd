"""Tuned classifiers, with one label per text (`classify`) or a tag for each word (`tag`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.entities import Place
from stages.core.data.marks import is_marked
from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles
from stages.core.models.encoders import get_encoder
from stages.core.models.loading import get_tokenizer, get_tuned_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL_CLASSES = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}
"""The auto classes of transformers that have a classification head, by method."""
HEADS = ["classifier", "score"]
"""The names of the classification head in these classes."""
TASKS = {
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
}
"""The names of transformers' pipelines by method. For these a classifier is saved whole."""


MULTI_LABEL = "multi_label_classification"
"""The `problem_type` of transformers for a head with several labels for each text."""


class Reading(NamedTuple):
    """The tokens of a text as the model reads them."""

    ids: list[int]
    offsets: list[Place]
    """The place of each token in the text."""
    cut: bool
    """Whether the text was longer than the limit and was cut."""


def get_limit(config: Config) -> int:
    """Return the maximum number of tokens of a text that the classifier reads."""
    return config.train.encoder.max_length if config.train.encoder else config.model.max_length


def read_texts(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], limit: int
) -> list[Reading]:
    """Encode texts and cut each after `limit` tokens.

    Spellings of control tokens in a text, such as `[SEP]`, are ordinary text.

    Raises:
        UserError: The tokenizer is not a fast one and does not report the places of tokens.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{tokenizer.name_or_path}: a classification head needs a fast tokenizer; choose "
            "another model"
        )
    encodings = tokenizer(list(texts), truncation=True, max_length=limit).encodings or []
    control = get_control_tokens(tokenizer)
    special = set(tokenizer.all_special_ids)
    cut = {"max_length": limit, "direction": tokenizer.truncation_side}
    for i, (text, found) in enumerate(zip(texts, encodings, strict=True)):
        if is_marked(control.mark(text, spoken=True)):
            own = zip(found.ids, found.special_tokens_mask, strict=True)
            if special & {token for token, added in own if not added}:
                # `split_special_tokens` does not reach a vocabulary that has the control tokens.
                encodings[i] = control.encode_as_text(text, **cut)
    return [Reading(e.ids, e.offsets, bool(e.overflowing)) for e in encodings]


def choose_labels(logits: "torch.Tensor", at_least_one: bool) -> "torch.Tensor":
    """Choose the labels whose probability is above one half.

    Args:
        logits: The logits, of shape (texts, labels).
        at_least_one: Whether a text without such a label gets its likeliest one.

    Returns:
        Whether each label is chosen, of the same shape.
    """
    chosen = logits > 0
    if at_least_one:
        best = logits == logits.max(-1, keepdim=True).values
        chosen = chosen | (best & ~chosen.any(-1, keepdim=True))
    return chosen


def load_classifier(
    config: Config, tuned: Path
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load the tuned classifier in the folder `tuned` and its tokenizer."""
    kind = MODEL_CLASSES[config.train.method]
    tokenizer = get_tokenizer(ModelFiles(str(tuned), None, None), chats=False)
    return get_tuned_model(get_encoder(config), config.model.dtype, tuned, kind), tokenizer
