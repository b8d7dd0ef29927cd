"""Fixtures that give each test module a repository of its own and run a user's commands in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

QUICK = (
    "conf/experiment/smoke.yaml",
    # Any verdict passes the gate of the copy, so that the tests exercise registering too.
    "register: { gate: { verdict: null, min_primary_metric: 0.0, purpose: one-task, "
    "max_cut_fraction: 1.0, accept_unknown_licenses: [data] } }\n"
    "evaluate: { prices: { machine: { repeats: 2 } } }\n",
)


@pytest.fixture(scope="module")
def environment():
    names = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        names |= {f"{name}_NAME": "Test", f"{name}_EMAIL": "test@example.org"}
    return names


@pytest.fixture(scope="module")
def clone(environment, tmp_path_factory):
    """Return a function that runs a command in a new repository with the working tree's files."""
    folder = tmp_path_factory.mktemp("clone") / "tuneproof"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(
        listed, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        # data/test_looks has the looks at the test rows of the default data set.
        if (ROOT / name).exists() and not name.startswith("data/test_looks/"):
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
