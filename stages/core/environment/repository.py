"""The git repository that a stage runs in."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

CODE = ("stages", "conf", "dvc.yaml", "constraints.txt", "pyproject.toml", "requirements-vllm.txt")
"""The files on which the outputs of the pipeline depend, besides data and `params.yaml`."""
DATA = "*.dvc"
"""The files of DVC that name data, in all folders."""


def repository_root() -> Path:
    """Return the original repository, even inside the copies for DVC's queued experiments."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def git_commit() -> str:
    """Return the commit that the experiment started from, or `unknown` outside a git repository."""
    return (
        os.environ.get("DVC_EXP_BASELINE_REV")
        or (run_git("rev-parse", "HEAD") or "unknown").strip()
    )


def git_dirty() -> bool:
    """Return whether the code differs from the commit, ignoring what the pipeline writes.

    Every tracked file counts, and new files of the code and of `conf/`.
    """
    ours = (".", ":!dvc.lock", ":!params.yaml")
    edited = run_git("status", "--porcelain", "--untracked-files=no", "--", *ours)
    return bool(edited or run_git("ls-files", "--others", "--exclude-standard", "--", *CODE))


def get_changes(commit: str) -> str:
    """Return the changes of the code and of `conf/` since a commit, as a patch for `git apply`.

    New files count too, and so do the files of DVC that name data (`*.dvc`). The text is empty if
    there are none, or outside a git repository.
    """
    present = [name for name in CODE if Path(name).exists()]
    with TemporaryDirectory() as folder:
        # A copy of the index, so that that of the user stays as it is.
        environment = os.environ | {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        if run_git("read-tree", commit, env=environment) is None:
            return ""
        run_git("add", "--all", "--", *present, env=environment)
        run_git("add", "--all", "--", DATA, env=environment)  # it fails if there are none
        compared = ("diff", "--cached", "--binary", commit, "--", *CODE, DATA)
        return run_git(*compared, env=environment) or ""


def run_git(*arguments: str, env: Mapping[str, str] | None = None) -> str | None:
    """Return what a git command prints, or None if it fails."""
    done = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        env=env,
    )
    return done.stdout if done.returncode == 0 else None
