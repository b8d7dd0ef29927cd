"""Test that `constraints.txt` is written whole, with the hashes of builds from elsewhere."""

import subprocess

import pytest

from stages.core.errors import UserError
from tools import lock

RESOLVED = """\
numpy==2.0 \\
    --hash=sha256:aa
torch==2.13.0 ; sys_platform == 'linux' \\
    --hash=sha256:bb
"""


def test_a_build_from_elsewhere_is_allowed_beside_the_resolved_files():
    locked = lock.add_hashes(RESOLVED, {"torch==2.13.0": ["cc"]})
    assert locked.splitlines()[2:] == [
        "torch==2.13.0 ; sys_platform == 'linux' \\",
        "    --hash=sha256:cc \\",
        "    --hash=sha256:bb",
    ]


def test_hashes_of_another_version_are_never_added():
    with pytest.raises(UserError, match=r"torch==2\.13 under \[tool\.tuneproof\.hashes\]"):
        lock.add_hashes(RESOLVED, {"torch==2.13": ["cc"]})


@pytest.mark.parametrize(
    ("uv", "said"), [(FileNotFoundError(), "run `make lock`"), (1, "a conflict")]
)
def test_what_keeps_uv_from_resolving_is_said(monkeypatch, uv, said):
    def run(command, **_):
        if isinstance(uv, Exception):
            raise uv
        return subprocess.CompletedProcess(command, uv, "", "a conflict\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UserError, match=said):
        lock.resolve(["runtime"], upgrade=False)
