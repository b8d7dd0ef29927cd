"""Convert the matrix of architectures with llama.cpp's real converter, for docs/models.md.

    python -m tests.gguf_matrix

It needs the group `export`, and downloads the converter and the default model, whose tokenizer the
converter knows. It prints what came of each architecture, and fails if `GGUF` in
tests/architectures.py says something else. The other tests use a stand-in for the converter.
"""

import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose, initialize_config_dir

from stages.core.config.schema import parse
from stages.core.errors import UserError
from stages.core.models.base_models import get_base_model
from tests.architectures import GGUF, MATRIX, Architecture
from tests.control_tokenizers import make_sentencepiece
from tools.export.converter import SENTENCEPIECE, convert
from tools.export.gguf_file import read_gguf_model
from tools.export.tensors import compare_rounded, get_language_weights

PIECES = 320
SENTENCES = ("Phi-3", "Qwen2")
"""Beside Gemma, the architectures whose tokenizer is made here. transformers gives Qwen2 a splitting
of texts that is not that of the default model's tokenizer."""
REAL_SIZES = {
    "Qwen3": {"head_dim": 128},
    "gpt-oss": {"head_dim": 64},
    "Qwen3.5": {
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    },
}
"""What published models have and transformers' reader expects, because it does not read it from a file."""
FILE = "model.gguf"


def find_tokenizer() -> Path:
    """Return the folder of the default model; the converter knows its tokenizer."""
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        config = parse(compose("config"))
    return Path(get_base_model(config.model, config.seed).path)


def write_pieces(path: Path) -> None:
    """Train a vocabulary of SentencePiece, which the converter reads for some architectures."""
    import sentencepiece

    lines = [" ".join(f"w{i * j % 97} the quick" for j in range(20)) for i in range(200)]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=PIECES,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path.write_bytes(written.getvalue())


def build(architecture: Architecture, tokenizer: Path, folder: Path) -> Any:
    """Write the model, with a vocabulary of the size of its tokenizer."""
    gemma = architecture.name.startswith("Gemma")
    if gemma or architecture.name in SENTENCES:
        make_sentencepiece("gemma", "bpe").save_pretrained(folder)
        write_pieces(folder / SENTENCEPIECE)
        changed = {"vocab_size": 512, "tie_word_embeddings": gemma}
    else:
        for path in tokenizer.glob("*token*"):
            shutil.copyfile(path, folder / path.name)
        changed = {"vocab_size": 49_152}
    changed |= REAL_SIZES.get(architecture.name, {})
    sizes = architecture.sizes | changed
    if "text_config" in sizes:
        sizes["text_config"] = sizes["text_config"] | changed
    model = replace(architecture, sizes=sizes).build()
    model.save_pretrained(folder)
    return model


def describe(architecture: Architecture, tokenizer: Path) -> tuple[str, str]:
    """Return what the table says of the architecture, and why."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = build(architecture, tokenizer, folder)
        try:
            convert(folder, "f32", "model", folder / FILE)
        except UserError as error:
            return "refused", str(error)
        try:
            read = read_gguf_model(folder / FILE)
        except Exception as error:  # transformers reads fewer architectures than are converted
            return "converted", f"transformers does not read it: {str(error).splitlines()[0]}"
        try:
            weights = get_language_weights(model)
            found = compare_rounded(weights, read.state_dict(), "f32", "the file")
        except UserError as error:
            return "refused", str(error)
        return "proved", f"{found.total()} tensors equal"


def main() -> None:
    """Print a line for each architecture.

    Raises:
        SystemExit: The list in tests/architectures.py is not that of today.
    """
    tokenizer = find_tokenizer()
    found = {}
    for architecture in MATRIX:
        found[architecture.name], why = describe(architecture, tokenizer)
        sys.stdout.write(f"{architecture.name}: {found[architecture.name]}: {why}\n")
        sys.stdout.flush()
    if found != GGUF:
        raise SystemExit(f"GGUF in tests/architectures.py should be {found}")


if __name__ == "__main__":
    main()
