"""Read a GGUF file with transformers, and compare it with the registered model."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.data.prompts import encode_prompt
from stages.core.errors import UserError
from tools.export.merged import check_ids
from tools.export.proof import Proof
from tools.export.source import Source
from tools.export.tensors import compare_rounded, get_language_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEMPLATE = "tokenizer.chat_template"
READER = "transformers' GGUF reader"


def check_gguf(source: Source, file: Path, quantization: str) -> list[Proof]:
    """Check the weights, the chat template and the tokenizer of a GGUF file.

    Raises:
        UserError: One of them differs from the registered one.
    """
    return [
        _check_tensors(source, file, quantization),
        _check_template(source, file),
        _check_tokens(source, file),
    ]


def read_gguf_model(file: Path) -> "PreTrainedModel":
    """Read a GGUF file with transformers, in float32.

    Raises:
        Exception: The reader does not know the architecture, which the converter writes, or does not
            find all of its weights.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # it reads as if it converted
    model, about = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
    )
    if missing := sorted(about["missing_keys"]):
        raise ValueError(f"it does not find {len(missing)} of the weights, such as {missing[0]}")
    return model


def _check_tensors(source: Source, file: Path, quantization: str) -> Proof:
    try:
        read = read_gguf_model(file)
    except Exception as error:  # it reads fewer architectures than the converter writes
        said = str(error).strip().split("\n")[0][:200]
        return Proof("tensors", False, f"not checked, because {READER} says: {said}")
    model = source.load_model()
    registered = get_language_weights(model)
    part = "" if len(registered) == len(model.state_dict()) else " of the language model"
    found = compare_rounded(registered, read.state_dict(), quantization, "the GGUF file")
    how = ", ".join(
        f"{count} {kind if kind.startswith('unchanged') else f'rounded to {kind}'}"
        for kind, count in found.items()
    )
    sentence = f"all {found.total()} registered tensors{part}, read by {READER}, bit by bit: {how}"
    return Proof("tensors", True, sentence, {"tensors": found.total(), **found})


def _check_template(source: Source, file: Path) -> Proof:
    from gguf import GGUFReader

    field = GGUFReader(file).fields.get(TEMPLATE)
    if field is None or field.contents() != source.tokenizer.chat_template:
        what = "has no chat template" if field is None else "has another chat template"
        raise UserError(f"the GGUF file {what} than the registered model. Nothing was exported")
    size = len(str(source.tokenizer.chat_template))
    return Proof("template", True, f"the file has the registered chat template ({size} characters)")


def _check_tokens(source: Source, file: Path) -> Proof:
    if source.rows is None:
        return Proof("tokens", False, source.no_rows)
    try:
        read = _load_tokenizer(source, file)
    except Exception as error:  # it reads fewer tokenizers than the converter writes
        said = str(error).strip().split("\n")[0][:200]
        return Proof("tokens", False, f"not checked, because {READER} says: {said}")
    ours = source.encode(source.tokenizer, source.rows)
    theirs = [encode_prompt(read, source.build(row), row.tools) for row in source.rows]
    check_ids(source.rows, ours, theirs, READER)
    sentence = f"the prompts of all {len(ours)} test rows have the registered token ids in {READER}"
    return Proof("tokens", True, sentence, {"rows": len(ours)})


def _load_tokenizer(source: Source, file: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
