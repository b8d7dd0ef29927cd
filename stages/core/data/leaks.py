"""How many held-out rows leak, as `prepare` measured it, in `data/prepared/leaks.json`.

A row of the validation or the test split leaks if another split has a near-duplicate of it or, with
given splits, the same question. The gate of `register` reads this file.
"""

from pathlib import Path

from stages.core.data.records import PREPARED, SPLITS
from stages.core.storage.files import read_json, sha256_file, write_json

LEAKS = "leaks.json"


def write_leaks(folder: Path, held_out: int, leaking: int) -> None:
    """Write the counts with the hashes of the splits in which they were counted.

    Args:
        folder: The folder of the splits.
        held_out: The number of rows in the validation and the test split.
        leaking: How many of them leak, after `prepare` has dropped rows.
    """
    found = {"held_out": held_out, "leaking": leaking, "data_sha256": hash_splits(folder)}
    write_json(folder / LEAKS, found)


def read_leak_fraction(folder: Path = PREPARED) -> float | None:
    """Read the share of the held-out rows that leak.

    Returns:
        The share, or None if nobody has measured it in the splits that are there now.
    """
    path = folder / LEAKS
    found = read_json(path) if path.exists() else {}
    if found.get("data_sha256") != hash_splits(folder):
        return None
    return float(found["leaking"]) / max(1, int(found["held_out"]))


def hash_splits(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of each split that exists in a folder."""
    paths = {split: folder / f"{split}.jsonl" for split in SPLITS}
    return {split: sha256_file(path) for split, path in paths.items() if path.exists()}
