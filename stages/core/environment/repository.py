"""The git repository that a stage runs in."""

import os
import subprocess
from pathlib import Path


def repository_root() -> Path:
    """Return the original repository, even inside the copies for DVC's queued experiments."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def git_commit() -> str:
    """Return the commit that the experiment started from, or `unknown` outside a git repository."""
    return os.environ.get("DVC_EXP_BASELINE_REV") or _git("rev-parse", "HEAD") or "unknown"


def git_dirty() -> bool:
    """Return whether tracked files differ from the commit, ignoring what the pipeline writes."""
    return bool(
        _git(
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ".",
            ":!dvc.lock",
            ":!params.yaml",
        )
    )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
