"""Run an experiment again from scratch and compare its answers, weights and verdict.

    python -m tools.repeat              # the workspace with its params.yaml
    python -m tools.repeat NAME         # a DVC experiment, a branch, a tag or a commit

All stages up to `evaluate` run in a temporary copy on this machine, without DVC's run cache. The
workspace, DVC's cache and the registry do not change. The comparison leaves out times and costs,
which are in files of their own. The exit status is 1 if anything differs.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from dvc.api import DVCFileSystem
from rich.console import Console
from rich.table import Table

from stages.core.entrypoint import make_parser, tool_main
from stages.core.errors import UserError
from stages.core.storage.files import read_json, sha256_file
from tools.reruns import rerun, restore_looks, unpack

VERDICT = "reports/verdict.json"
COMPARED = (
    "data/prepared/*.jsonl",
    "models/tuned/**/*",
    "models/rivals/**/*",
    "predictions/**/*.jsonl",
    "predictions/**/*.json",
    VERDICT,
)
FOLDERS = ("data/prepared", "models", "predictions", "reports")
SHOWN = 12  # digits of a digest


@tool_main("repeat")
def main() -> None:
    """Run the stages again, compare the outputs and exit with 1 if any differ."""
    parser = make_parser("tools.repeat", __doc__)
    parser.add_argument(
        "name", nargs="?", help="an experiment or a revision (default: the workspace)"
    )
    name = parser.parse_args().name
    console = Console(highlight=False)
    with TemporaryDirectory(prefix="tuneproof-repeat-") as folder:
        first = Path(folder, "first")
        again = Path(folder, "again")
        if name:
            revision = find_revision(name)
            fetch_results(name, revision, first)
            unpack(revision, again)
        else:
            first = Path.cwd()
            copy_workspace(again)
        if not (first / VERDICT).exists():
            raise UserError("there is nothing to compare with: run `dvc repro` first")
        restore_looks(read_json(first / VERDICT)["looks"]["place"], again)
        rerun(again)
        differing = show(console, get_digests(first), get_digests(again))
        if differing:
            may = read_json(again / "models/tuned/training.json")["determinism"]["what_may_differ"]
            console.print(f"What may differ on this machine: {may}")
    sys.exit(1 if differing else 0)


def find_revision(name: str) -> str:
    """Return the commit of an experiment, a branch, a tag or a revision.

    Raises:
        UserError: Nothing has this name.
    """
    for line in _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines():
        commit, reference = line.split()
        if reference.rsplit("/", 1)[-1] == name:
            return commit
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "-q", f"{name}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise UserError(
            f"{name}: no such experiment, branch, tag or commit; "
            "`dvc exp list` lists the experiments"
        )
    return found.stdout.strip()


def fetch_results(name: str, revision: str, to: Path) -> None:
    """Copy the outputs of a revision into a folder.

    Raises:
        UserError: DVC's cache does not have them.
    """
    files = DVCFileSystem(rev=revision)
    for folder in FOLDERS:
        try:
            files.get(folder, str(to / folder), recursive=True)
        except Exception as error:  # from DVC, fsspec or the operating system
            raise UserError(
                f"{name}: {folder} is not in DVC's cache ({error}); try `dvc exp pull`"
            ) from None


def copy_workspace(to: Path) -> None:
    """Copy the files of the workspace into a folder, except those that git ignores."""
    for name in _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if Path(name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, to / name)


def get_digests(folder: Path) -> dict[str, str]:
    """Return the digest of each compared file in a folder, without the files of times and costs."""
    paths = {path for pattern in COMPARED for path in folder.glob(pattern) if path.is_file()}
    paths -= {folder / "predictions/timings.json", *(folder / "predictions/measured").rglob("*")}
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(paths)}


def show(console: Console, first: dict[str, str], again: dict[str, str]) -> list[str]:
    """Print both digests of each file and return the files that differ."""
    table = Table()
    for heading in ("file", "first", "again", ""):
        table.add_column(heading, overflow="fold")
    differing = [name for name in sorted({*first, *again}) if first.get(name) != again.get(name)]
    for name in sorted({*first, *again}):
        digests = [found.get(name, "missing")[:SHOWN] for found in (first, again)]
        table.add_row(name, *digests, "different" if name in differing else "same")
    console.print(table)
    files = len({*first, *again})
    console.print(
        f"{files - len(differing)} of {files} files are the same"
        + (", the others differ." if differing else ".")
    )
    return differing


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
