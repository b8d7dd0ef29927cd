"""Let a classifier answer records and write its answers in the form of the targets."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stages.core.config.schema import Config
from stages.core.data.entities import (
    NO_ENTITIES,
    find_tokens,
    get_words,
    read_tags,
    tags_of_words,
    write_entities,
)
from stages.core.data.label_lists import LabelForm
from stages.core.data.predictions import Prediction
from stages.core.data.records import Record
from stages.core.environment.energy import measure
from stages.core.models.classifier import (
    MULTI_LABEL,
    Reading,
    choose_labels,
    get_limit,
    read_texts,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def ask_classifier(
    arm: str,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    config: Config,
    records: Sequence[Record],
) -> list[Prediction]:
    """Let a classifier answer every record.

    For models that generate text, see `stages.core.inference.asking.ask`.

    Args:
        arm: The name of the arm.
        model: The model in evaluation mode, with the classification head of `train.method`.
        tokenizer: The model's tokenizer.
        config: The configuration, which sets the limits.
        records: The rows to answer.
    """
    from tqdm import tqdm

    from stages.core.models.generation import batches

    readings = read_texts(tokenizer, [record.question for record in records], get_limit(config))
    write = get_writer(config.train.method, bool(config.train.label_separator))
    found: dict[int, tuple[str, float]] = {}
    lengths = [len(reading.ids) for reading in readings]
    with (
        measure(config.energy) as used,
        tqdm(total=len(records), desc=arm, unit="row", mininterval=1) as bar,
    ):
        for rows in batches(lengths, config.model.max_batch_tokens):
            started = time.perf_counter()
            chosen = choose(model, tokenizer, [readings[i] for i in rows])
            texts = [
                write(model.config, records[i], readings[i], c)
                for i, c in zip(rows, chosen, strict=True)
            ]
            seconds = (time.perf_counter() - started) / len(rows)
            found |= {i: (text, seconds) for i, text in zip(rows, texts, strict=True)}
            bar.update(len(rows))
    energy = None if used.kwh is None else used.kwh / len(records)
    return [
        Prediction(r.id, arm, found[i][0], lengths[i], 0, found[i][1], energy)
        for i, r in enumerate(records)
    ]


def choose(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", readings: Sequence[Reading]
) -> list[Any]:
    """Get the index of the likeliest label of each text, or of each of its tokens.

    For a model with several labels for each text it is the list of their indices.
    """
    return choose_from(model, get_logits(model, tokenizer, readings))


def get_logits(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", readings: Sequence[Reading]
) -> "torch.Tensor":
    """Return the logits of texts, of shape (texts, labels), or (texts, padded tokens, labels)."""
    import torch

    inputs = tokenizer.pad(
        {"input_ids": [reading.ids for reading in readings]}, return_tensors="pt"
    )
    with torch.inference_mode():
        return model(**inputs.to(model.device)).logits


def choose_from(model: "PreTrainedModel", logits: "torch.Tensor") -> list[Any]:
    """Get from the logits of texts what `choose` returns."""
    if model.config.problem_type != MULTI_LABEL:
        return logits.argmax(-1).tolist()
    chosen = choose_labels(logits, model.config.label_form["nothing"] is None)
    return [row.nonzero().flatten().tolist() for row in chosen]


def get_writer(method: str, several: bool) -> Callable[[Any, Record, Reading, Any], str]:
    """Return the function that writes what the model chose in the form of the targets.

    Args:
        method: The training method.
        several: Whether a text has several labels.

    Returns:
        The function of the model's configuration, the record, its tokens and the choice.
    """
    if method == "token-classification":
        return _write_tags
    return _write_labels if several else _write_label


def _write_labels(settings: Any, record: Record, reading: Reading, labels: Sequence[int]) -> str:
    form = LabelForm(**settings.label_form)
    return form.write([settings.id2label[label] for label in labels])


def _write_label(settings: Any, record: Record, reading: Reading, label: int) -> str:
    return settings.id2label[label]


def _write_tags(settings: Any, record: Record, reading: Reading, labels: Sequence[int]) -> str:
    words = get_words(record.question)
    tags = [settings.id2label[label] for label in labels]
    found = tags_of_words(find_tokens(words, reading.offsets), tags)
    nothing = getattr(settings, "no_entities", NO_ENTITIES)
    return write_entities(read_tags(record.question, words, found), nothing)
