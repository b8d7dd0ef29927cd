"""The files of the ledger of looks at test rows, in `data/test_looks`.

`evaluate` writes them, and `register` requires the look on which a verdict rests.
"""

from pathlib import Path

from stages.core.storage.files import read_json

LEDGER = Path("data/test_looks")
"""The path from the root of the repository.

The first digits of the hash of a test split name its folder.
"""
DIGITS = 12  # digits of a hash in the name of a folder or file


def get_look_folder(root: Path, test_sha256: str) -> Path:
    """Return the folder of the looks at a test split, in the repository `root`."""
    return root / LEDGER / test_sha256[:DIGITS]


def get_look_name(place: int | str, metric: str, model_sha256: str) -> str:
    """Return the name of the file of a look, or with the place `*` a pattern for it."""
    number = place if isinstance(place, str) else f"{place:03}"
    return f"{number}-{metric}-{model_sha256[:DIGITS]}.json"


def find_place(folder: Path, metric: str, model_sha256: str) -> int | None:
    """Return the place of the look at a model by a metric; None if it is not in the folder."""
    paths = folder.glob(get_look_name("*", metric, model_sha256))
    return min((read_json(path)["place"] for path in paths), default=None)


def find_last_place(folder: Path) -> int:
    """Return the place of the latest look at a test split by any metric; 1 without looks."""
    return max((read_json(path)["place"] for path in folder.glob("*.json")), default=1)
