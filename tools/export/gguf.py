"""Export a version as a GGUF file for llama.cpp, with a Modelfile for Ollama."""

import re
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.core.errors import UserError
from tools.export.adapter import find_base
from tools.export.answers import check_answers
from tools.export.converter import SENTENCEPIECE, convert
from tools.export.gguf_file import check_gguf
from tools.export.merged import copy_model
from tools.export.modelfile import write_modelfile
from tools.export.options import ExportOptions
from tools.export.proof import Proof
from tools.export.source import Source

OWN_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""The type in a GGUF file that keeps weights of a type of torch as they are."""


def export_gguf(source: Source, folder: Path, options: ExportOptions) -> list[Proof]:
    """Convert the registered model, and check the file with transformers and with llama.cpp.

    Args:
        source: The registered version.
        folder: An empty folder.
        options: The type of the weights, and the limits of the checks.

    Raises:
        UserError: The model cannot be converted, or the file does not answer like the model.
    """
    if source.classifies:
        raise UserError(
            f"{source.version.uri} is a classifier, whose head llama.cpp does not run. Choose "
            "format=merged"
        )
    quantization = options.quantization or OWN_TYPES[source.dtype]
    name = re.sub(r"[^\w.-]", "-", f"{source.version.name}-{source.version.number}")
    file = folder / f"{name}-{quantization}.gguf"
    with TemporaryDirectory(dir=folder, prefix=".merged-") as merged:
        copy_model(source, Path(merged))
        _add_sentencepiece(source, Path(merged))
        convert(Path(merged), quantization, name, file)
    proofs = check_gguf(source, file, quantization)
    proofs += check_answers(source, file, quantization, options)
    if not any(proof.proved for proof in proofs if proof.what in ("tensors", "answers", "metric")):
        raise UserError(
            "neither the weights nor the answers of the GGUF file can be compared with the registered "
            f"model: {'; '.join(proof.sentence for proof in proofs if not proof.proved)}"
        )
    return [*proofs, write_modelfile(source, file)]


def _add_sentencepiece(source: Source, folder: Path) -> None:
    """Add the file of SentencePiece from the base model, if it has one.

    The converter reads it for some architectures, such as Gemma. Transformers does not save it with a
    tokenizer. Whether the tokens are the registered ones is checked afterwards.
    """
    from transformers.utils import cached_file

    with suppress(UserError, OSError):
        base = find_base(source)
        found = cached_file(
            base.path,
            SENTENCEPIECE,
            revision=base.revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found:
            shutil.copyfile(found, folder / SENTENCEPIECE)
