"""Export a version as a plain folder of transformers."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.core.data.end_tokens import get_end_ids
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.models.base_models import list_ids
from stages.core.storage.files import read_json, sha256_file, write_json
from stages.core.tracking.version_files import FILES_SHA256, MODEL, TOKENIZER
from tools.export.proof import Proof
from tools.export.source import Source
from tools.export.tensors import compare_exactly

GENERATION = "generation_config.json"
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")
"""The settings of transformers that only sampling reads. Without them decoding is greedy."""


def export_merged(source: Source, folder: Path) -> list[Proof]:
    """Copy the registered files into one folder, and check what transformers loads from it.

    Args:
        source: The registered version.
        folder: An empty folder.

    Raises:
        UserError: What is loaded is not what was registered.
    """
    copied = copy_model(source, folder)
    proofs = [check_files(folder, copied, FILES_SHA256)]
    loaded = source.load_model(folder)
    count = compare_exactly(
        source.load_model().state_dict(), loaded.state_dict(), "the merged model"
    )
    sentence = f"all {count} tensors that transformers loads are the registered ones, bit by bit"
    proofs.append(Proof("tensors", True, sentence, {"tensors": count}))
    return [*proofs, *check_tokenizer(source, folder)]


def copy_model(source: Source, folder: Path) -> dict[str, Path]:
    """Copy the weights, the tokenizer and their settings into one folder.

    A language model's generation settings get all end tokens, the evaluated limit of an answer and
    greedy decoding.

    Returns:
        The registered file of each name, without the generation settings.

    Raises:
        UserError: Two registered files have the same name and different bytes.
    """
    copied: dict[str, Path] = {}
    for part in (MODEL, TOKENIZER):
        for path in sorted((source.folder / part).rglob("*")):
            if not path.is_file():
                continue
            name = path.relative_to(source.folder / part).as_posix()
            if name in copied and sha256_file(copied[name]) != sha256_file(path):
                raise UserError(f"{copied[name]} and {path} differ, so one folder cannot have both")
            copied[name] = path
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    if not source.classifies:
        copied.pop(GENERATION, None)
        _write_generation(source, folder / GENERATION)
    return copied


def get_end_tokens(source: Source) -> set[int]:
    """Return every token that ends an answer."""
    path = source.folder / MODEL / GENERATION
    settings = read_json(path) if path.exists() else {}
    return get_end_ids(source.tokenizer) | list_ids(settings.get("eos_token_id"))


def check_files(folder: Path, copied: dict[str, Path], tag: str) -> Proof:
    """Check that files have the bytes of the registered ones.

    Args:
        folder: The folder of the export.
        copied: The registered file of each name.
        tag: The tag of the version that has their hash, with which they were compared before.

    Raises:
        UserError: A file differs, for example because the disk is full or failing.
    """
    for name, path in copied.items():
        if sha256_file(folder / name) != sha256_file(path):
            raise UserError(
                f"{folder / name} differs from {path} after it was copied. Check the disk"
            )
    what = f"{len(copied)} files have" if len(copied) > 1 else f"{next(iter(copied))} has"
    sentence = f"{what} the registered SHA-256, which the version's tag {tag} confirms"
    return Proof("files", True, sentence, {"files": len(copied)})


def check_tokenizer(source: Source, folder: Path) -> list[Proof]:
    """Check that the tokenizer of an export encodes the test rows as the registered one does.

    Raises:
        UserError: It encodes a row otherwise, or has another chat template.
    """
    loaded = source.load_tokenizer(folder)
    if loaded.chat_template != source.tokenizer.chat_template:
        raise UserError("the export has another chat template than the registered model")
    if source.rows is None:
        return [Proof("tokens", False, source.no_rows)]
    ours = source.encode(source.tokenizer, source.rows)
    check_ids(source.rows, ours, source.encode(loaded, source.rows), "the export's tokenizer")
    what = "texts" if source.classifies else "prompts, rendered with the chat template,"
    sentence = f"the {what} of all {len(ours)} test rows have the registered token ids"
    return [Proof("tokens", True, sentence, {"rows": len(ours)})]


def check_ids(
    rows: Sequence[Record], ours: list[list[int]], theirs: list[list[int]], what: str
) -> None:
    """Check that another tokenizer gives the same ids for rows.

    Raises:
        UserError: A row has other ids.
    """
    differing = [row.id for row, a, b in zip(rows, ours, theirs, strict=True) if a != b]
    if differing:
        raise UserError(
            f"{what} gives other token ids for {len(differing)} of {len(rows)} test rows, such as "
            f"{differing[0]}. Nothing was exported"
        )


def _write_generation(source: Source, path: Path) -> None:
    registered = source.folder / MODEL / GENERATION
    settings = read_json(registered) if registered.exists() else {}
    settings = {key: value for key, value in settings.items() if key not in SAMPLING}
    ends = sorted(get_end_tokens(source))
    write_json(
        path,
        settings
        | {
            "do_sample": False,
            "eos_token_id": ends[0] if len(ends) == 1 else ends,
            "max_new_tokens": source.asked["max_new_tokens"],
        },
    )
