"""Run the pipeline again in a copy of the repository."""

import os
import shutil
import subprocess
from pathlib import Path

from dvc.repo import Repo

from stages.core.data.looks import LEDGER
from stages.core.errors import UserError
from stages.core.storage.files import read_json


def unpack(revision: str, to: Path) -> None:
    """Extract the files of a commit into a folder."""
    to.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", revision], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(to)], input=archive, check=True)


def restore_looks(place: int | None, to: Path) -> None:
    """Copy the looks at test rows up to that of a verdict into another folder.

    So the same models have the same places, whatever was judged later.

    Args:
        place: The place of the verdict's look; None copies no look.
        to: The copy of the repository.
    """
    shutil.rmtree(to / LEDGER, ignore_errors=True)
    for file in LEDGER.rglob("*.json"):
        if read_json(file)["place"] <= (place or 0):
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to / file)


def rerun(folder: Path, python: Path | None = None) -> None:
    """Run the stages up to `evaluate` in a copy of the repository, without DVC's run cache.

    Args:
        folder: The copy, which becomes a git repository of its own.
        python: The folder of the programs of another environment; None runs in this one.

    Raises:
        UserError: A command failed.
    """
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("DVC_EXP_")
    }
    if python:
        environment |= {"PATH": f"{python}{os.pathsep}{environment['PATH']}"}
    # The repetition is not a new result, so its runs stay out of the usual MLflow store.
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    person = {"GIT_AUTHOR_NAME": "repeat", "GIT_AUTHOR_EMAIL": "repeat@localhost"}
    person |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in person.items()}

    def execute(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, env=environment | person, check=False)
        if done.returncode:
            raise UserError(f"`{' '.join(command)}` failed in the temporary copy, see above")

    execute("git", "init", "-q")
    execute("git", "add", "-A")
    execute("git", "commit", "-q", "-m", "A copy to repeat")
    execute("dvc", "config", "--local", "cache.dir", str(Path(Repo().cache.local.path).parents[1]))
    data = [
        str(path.relative_to(folder)) for path in sorted(folder.rglob("*.dvc")) if path.is_file()
    ]
    if data:
        execute("dvc", "checkout", "-q", *data)
    execute("dvc", "repro", "--force", "--no-run-cache", "--no-commit", "evaluate")
