"""The tuned model where it is a classifier: one label a text (`classify`), or a tag for each word (`tag`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stages.core.config.schema import Config
from stages.core.data.entities import Place
from stages.core.errors import UserError
from stages.core.models.base_models import BaseModel
from stages.core.models.encoders import get_encoder
from stages.core.models.loading import get_tokenizer, get_tuned_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KINDS = {"classify": "AutoModelForSequenceClassification", "tag": "AutoModelForTokenClassification"}
"""The classes of transformers that have the head."""
HEADS = ["classifier", "score"]
"""What they call it."""
TASKS = {"classify": "text-classification", "tag": "token-classification"}
"""The names of transformers' pipelines, for which a classifier is saved whole."""


class Reading(NamedTuple):
    """A text as the model reads it."""

    ids: list[int]
    offsets: list[Place]
    """Of each token in the text."""
    cut: bool
    """Whether it is longer than that."""


def get_limit(config: Config) -> int:
    """Tokens of a text that are read."""
    return config.train.encoder.max_length if config.train.encoder else config.model.max_length


def read_texts(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], limit: int
) -> list[Reading]:
    """Token ids of texts, each cut after `limit` tokens.

    Raises:
        UserError: the tokenizer does not know what token is where.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{tokenizer.name_or_path}: a head of labels needs a fast tokenizer; choose another model"
        )
    encodings = tokenizer(list(texts), truncation=True, max_length=limit).encodings or []
    return [Reading(e.ids, e.offsets, bool(e.overflowing)) for e in encodings]


def load_classifier(
    config: Config, tuned: Path
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The tuned model in the folder `tuned` and its tokenizer."""
    kind = KINDS[config.train.method]
    tokenizer = get_tokenizer(BaseModel(str(tuned), None, None), chats=False)
    return get_tuned_model(get_encoder(config), config.model.dtype, tuned, kind), tokenizer
