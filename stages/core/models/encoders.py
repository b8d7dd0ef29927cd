"""The files of the models that get a classification head."""

from pathlib import Path
from typing import Any

from stages.core.config.data import WheelSource
from stages.core.config.model import HubSource, RandomSource
from stages.core.config.schema import Config
from stages.core.errors import UserError
from stages.core.models.base_models import WEIGHTS, ModelFiles, get_base_model, get_hub_model
from stages.core.storage.cache import cached_folder, get_sha256
from stages.core.storage.wheels import get_member

# This is part of the cache's key. Increase it if the code below changes the bytes of its output.
VERSION = "1"
POSITIONS = 512  # the maximum length of the random encoder


def get_encoder(config: Config) -> ModelFiles:
    """Return the files of `train.encoder`, or of `model` if that is null.

    The files are fetched or created if they are not cached.

    Raises:
        UserError: The source cannot be reached or does not have the model.
    """
    encoder = config.train.encoder
    if encoder is None:
        return get_base_model(config.model, config.seed)
    source = encoder.source
    if isinstance(source, HubSource):
        return get_hub_model(source, "train.encoder.source.id")
    if isinstance(source, WheelSource):
        folder = get_member(source)
        if not (folder / WEIGHTS).exists():
            raise UserError(
                f"train.encoder.source.member {source.member!r} is not a folder with a {WEIGHTS} "
                "in it"
            )
    else:
        key = f"encoder-{source.hidden_size}-{source.layers}-{source.heads}-{config.seed}-{VERSION}"
        folder = cached_folder(f"models/{key}", lambda to: _make_random(source, config.seed, to))
    return ModelFiles(str(folder), None, get_sha256(folder / WEIGHTS))


def _make_random(source: RandomSource, seed: int, target: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = _make_tokenizer()
    tokenizer.save_pretrained(target)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                **source.sizes,
                max_position_embeddings=POSITIONS,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(target)


def _make_tokenizer() -> Any:
    """Make a tokenizer over bytes that adds the special tokens of BERT around the text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["[PAD]", "[CLS]", "[SEP]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(marks + alphabet)}, merges=[])
    )
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(mark, marks.index(mark)) for mark in marks[1:]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token=marks[0],
        cls_token=marks[1],
        sep_token=marks[2],
        model_max_length=POSITIONS,
    )
