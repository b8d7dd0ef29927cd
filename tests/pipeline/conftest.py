"""A repository of its own for each file here, and what a person would run in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

QUICK = (
    "conf/experiment/smoke.yaml",
    # Registering is exercised too: any verdict opens the gate of the copy.
    "register: { gate: { verdict: null, min_primary_metric: 0.0, purpose: one-task } }\n",
)


@pytest.fixture(scope="module")
def environment():
    names = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        names |= {f"{name}_NAME": "Test", f"{name}_EMAIL": "test@example.org"}
    return names


@pytest.fixture(scope="module")
def clone(environment, tmp_path_factory):
    """A function that runs a command in a fresh repository with the files of the working tree."""
    folder = tmp_path_factory.mktemp("clone") / "tuneproof"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(
        listed, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if (ROOT / name).exists() and not name.startswith(
            "data/test_looks/"
        ):  # the looks at the default's own rows
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with (folder / QUICK[0]).open("a") as preset:
        preset.write(QUICK[1])

    def execute(*command, fails=False, **more):
        done = subprocess.run(
            command,
            cwd=folder,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    execute("git", "init", "-q", "-b", "main")
    execute("git", "add", "-A")
    execute("git", "commit", "-q", "-m", "The working tree")
    execute.folder = folder
    return execute
