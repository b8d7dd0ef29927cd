"""The folder of an export: when it may be replaced, and the files that say what it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.storage.files import atomic_write, read_json, sha256_file, write_json
from tools.export.options import ExportOptions
from tools.export.proof import Proof, list_proofs, write_proofs
from tools.export.source import Source

ABOUT = "tuneproof.json"
"""The file that says which version an export is of, and how it was asked."""
CARD = "README.md"
COMMANDS = {
    "merged": ["vllm serve {folder} --generation-config {folder}"],
    "adapter": [
        "vllm serve BASE --enable-lora --lora-modules {name}={folder}",
    ],
    "gguf": [
        "llama-server -m {folder}/{file} --jinja",
        "ollama create {name} -f {folder}/Modelfile",
    ],
}
"""How each format is served."""


def check_folder(folder: Path) -> None:
    """Check that a folder does not exist, is empty or has an earlier export.

    Raises:
        UserError: It has something else, which an export would delete.
    """
    foreign = _list_foreign(folder) if folder.is_dir() else []
    if foreign:
        raise UserError(
            f"to={folder}: this folder has other files than an export, such as {foreign[0]}, which "
            "would be deleted. Choose a folder that does not exist yet"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"to={folder}: this is a file. Choose a folder that does not exist yet")


def _list_foreign(folder: Path) -> list[str]:
    """List the files of a folder that no export has written."""
    try:
        known = {ABOUT, *read_json(folder / ABOUT)["files"]}
    except (UserError, LookupError, TypeError):  # no export, or that of another program
        known = set()
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(set(files) - known)


def describe(
    folder: Path, to: Path, source: Source, options: ExportOptions, proofs: Sequence[Proof]
) -> None:
    """Write the proofs, the model card and the facts of an export into its folder.

    Args:
        folder: The folder that holds the files of the export.
        to: The folder that it becomes.
        source: The registered version.
        options: The settings of the export.
        proofs: What was proved.
    """
    write_proofs(folder, proofs)
    card = f"{source.card.rstrip()}\n\n{_describe_export(folder, to, source, options, proofs)}"
    atomic_write(folder / CARD, card.lstrip().encode())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    version = source.version
    about: dict[str, Any] = {
        "model": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "format": options.format,
        "quantization": options.quantization,
        "asked": dict(source.asked),
        "tags": dict(sorted(version.tags.items())),
        "files": {path.relative_to(folder).as_posix(): sha256_file(path) for path in files},
    }
    write_json(folder / ABOUT, about)


def _describe_export(
    folder: Path, to: Path, source: Source, options: ExportOptions, proofs: Sequence[Proof]
) -> str:
    """Write the section of the model card about an export."""
    version = source.version
    file = next((path.name for path in folder.glob("*.gguf")), "")
    named = {"folder": to.name, "file": file, "name": version.name}
    commands = "\n".join(f"    {command.format(**named)}" for command in COMMANDS[options.format])
    serve = "" if source.classifies else f"Serve it with\n\n{commands}\n\n"
    base = ""
    if options.format == "adapter":
        tags = version.tags
        base = (
            f"BASE is the base model {tags['base_model']}, whose weights have the SHA-256 or the "
            f"revision {tags['base_model_sha256']}.\n\n"
        )
    return (
        f"## This export\n\nVersion {version.number} of {version.name}, exported by Tuneproof as "
        f"{options.format}. {serve}{base}What was proved when it was exported:\n\n"
        f"{list_proofs(proofs)}\n"
    )
