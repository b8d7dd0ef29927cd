"""Check a local folder with a model before a library reads it and before hours of work.

Weights are checked by their headers, so this takes less than a second and does not import torch.
"""

import json
from os.path import lexists
from pathlib import Path
from typing import Any

from stages.core.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
CONFIG = "config.json"
TEMPLATE = "chat_template.jinja"
# What transformers reads besides the weights. Most of these files may be absent.
OBJECTS = (
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
OTHERS = (TEMPLATE, "tokenizer.model", "spiece.model", "vocab.txt", "merges.txt")
LFS = b"version https://git-lfs.github.com/spec/"
AGAIN = "Download this file again, or choose another model."


def check_model_folder(folder: Path) -> None:
    """Check the files of a model that transformers reads.

    Raises:
        UserError: A file is missing, cut or of another kind.
        OSError: The system refuses to read a file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Name the folder with the model's {CONFIG}.")
    if lexists(folder / ADAPTER):
        raise UserError(
            f"{folder} has an adapter ({ADAPTER}), which is not a whole model. Name its base model, "
            "or a folder with the adapter merged into it (`merge_and_unload` of peft)."
        )
    read_object(folder / CONFIG)
    for name in OBJECTS:
        if lexists(folder / name):
            read_object(folder / name)
    for name in OTHERS:
        if lexists(folder / name):
            _read(folder / name)
    if lexists(folder / TEMPLATE):
        _decode(folder / TEMPLATE)
    for path in list_weights(folder):
        _check_header(path)


def list_weights(folder: Path) -> list[Path]:
    """Return the files of weights that transformers loads from a folder, sorted.

    Raises:
        UserError: The folder has no safetensors, or not those that their index names.
    """
    if lexists(folder / WEIGHTS):
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not lexists(index):
        shards = any(folder.glob("model-*-of-*.safetensors"))
        raise UserError(
            f"{index} does not exist, but it names the shards of the weights. {AGAIN}"
            if shards
            else f"{folder / WEIGHTS} does not exist, nor {INDEX} with its shards. Download the "
            "weights as safetensors. Other formats, such as pytorch_model.bin, are not loaded, "
            "because a pickle can execute code."
        )
    content = read_object(index)
    places = content.get("weight_map")
    if not isinstance(places, dict) or not places or not isinstance(content.get("metadata"), dict):
        raise UserError(f"{index} has no `weight_map` or no `metadata`. {AGAIN}")
    names = sorted({str(name) for name in places.values()})
    missing = [name for name in names if not lexists(folder / name)]
    if missing:
        raise UserError(
            f"{folder / missing[0]} does not exist. {INDEX} names {len(names)} files of weights; "
            f"missing: {len(missing)}. Download the missing files, or choose another model."
        )
    return [folder / name for name in names]


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model, in which `Infinity` and `NaN` are allowed.

    Raises:
        UserError: The file is missing or is not a JSON object.
    """
    try:
        value = json.loads(_decode(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}. {AGAIN}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} has no JSON object, but a {type(value).__name__}. {AGAIN}")
    return value


def _decode(path: Path) -> str:
    try:
        return _read(path).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8: {error}. {AGAIN}") from None


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    _read(path, len(LFS))
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole file of safetensors: {error}. {AGAIN}") from None


def _read(path: Path, size: int = -1) -> bytes:
    """Read a file, or its first `size` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(size)
    except FileNotFoundError:
        what = "links to a file that does not exist" if path.is_symlink() else "does not exist"
        raise UserError(f"{path} {what}. {AGAIN}") from None
    if not data:
        raise UserError(f"{path} is empty. {AGAIN}")
    if data.startswith(LFS):
        raise UserError(
            f"{path} is a pointer of Git LFS, not the file itself. Run `git lfs pull` in its folder."
        )
    return data
