"""Train a registered model again and compare its weights, answers and metrics."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import OmegaConf

from stages.core.data.verdict import VERDICT
from stages.core.errors import UserError
from stages.core.models.candidates import Candidate
from stages.core.models.loading import weights_sha256
from stages.core.storage.files import read_json, read_jsonl, sha256_json
from stages.core.tracking.version_files import ANSWERS
from stages.register.origin import CHANGES, list_packages
from tools.reruns import rerun, restore_looks, unpack
from tools.verify.code import compare_packages
from tools.verify.outcome import Outcome, compare, drifted, holds
from tools.verify.recorded import Recorded, join

log = logging.getLogger(__name__)
PACKAGES = "lib/python*/site-packages"


def check_rerun(recorded: Recorded) -> Iterator[tuple[str, Outcome]]:
    """Run the stages up to `evaluate` from the recorded commit, and yield what came out.

    The packages are the installed ones if they are those that were recorded. Otherwise
    `make install` of the commit installs its pins into the clone.

    Raises:
        UserError: The commit is not here, or a command failed.
    """
    commit = recorded.commit
    if not recorded.has_commit:
        raise UserError(f"this repository does not have {commit}; fetch it with `git fetch --all`")
    with TemporaryDirectory(prefix="tuneproof-verify-") as folder:
        clone = Path(folder, "clone")
        unpack(commit, clone)
        _restore(recorded, clone)
        restore_looks(recorded.verdict["looks"]["place"], clone)
        environment = _get_environment(recorded, clone)
        folders = [str(path) for path in environment.glob(PACKAGES)] if environment else None
        yield "packages, trained again", compare_packages(recorded.packages, list_packages(folders))
        rerun(clone, environment and environment / "bin")
        yield from _compare_all(recorded, clone)


def _restore(recorded: Recorded, clone: Path) -> None:
    """Apply the changes since the commit, and write the recorded configuration."""
    patch = recorded.origin / CHANGES
    if patch.exists():
        command = ["git", "apply", str(patch.resolve())]
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{CHANGES} does not apply to the commit: {done.stderr.strip()}")
    params = clone / "params.yaml"
    # Whole sections replace those of the commit, so that none of its choices stays.
    values: Any = OmegaConf.to_container(OmegaConf.load(params))
    OmegaConf.save(OmegaConf.create(values | recorded.settings), params)


def _get_environment(recorded: Recorded, clone: Path) -> Path | None:
    """Return the folder of an environment with the recorded packages; None is this environment."""
    if recorded.packages == list_packages():
        return None
    log.warning("Other packages are installed now, so the pins of the commit are installed.")
    if subprocess.run(["make", "install"], cwd=clone, check=False).returncode:
        raise UserError("`make install` failed in the clone of the recorded commit, see above")
    return clone / ".venv"


def _compare_all(recorded: Recorded, clone: Path) -> Iterator[tuple[str, Outcome]]:
    candidate = recorded.candidate
    found = weights_sha256(clone / candidate.get_folder())
    sentence = f"bit by bit equal, SHA-256 {found[:12]}"
    yield "weights, trained again", compare(found, recorded.version.tags["model_sha256"], sentence)
    yield "answers, trained again", _compare_answers(recorded, clone, candidate)
    digest = sha256_json(read_json(clone / VERDICT))
    sentence = "the verdict and all its numbers are the same"
    yield "metrics, trained again", compare(digest, sha256_json(recorded.verdict), sentence)


def _compare_answers(recorded: Recorded, clone: Path, candidate: Candidate) -> Outcome:
    kept = read_json(recorded.folder / ANSWERS)
    rows = read_jsonl(clone / candidate.get_predictions_file(candidate.config.seed))
    differ = [row["id"] for row in rows if kept.get(row["id"]) != row["text"]]
    if differ or len(rows) != len(kept):
        return drifted(f"{len(differ)} of {len(kept)} differ, such as those of {join(differ)}")
    return holds(f"all {len(kept)} are the same")
